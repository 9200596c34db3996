// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "engine/base/check.h"
#include "engine/primary/dirty_words.h"

namespace haven {
namespace {

// Words that are looked at together: one cache line, without a branch per word.
constexpr size_t kLine = 8;

// Asks for the line that lies a page of memory ahead of `at`. Bitmaps are gone through once in an
// epoch, so they come from far away, and what the processor foresees by itself ends with the page
// (epoch_bench, no page dirty: the bitmap of 8 GiB takes two thirds of the time).
void PrefetchAhead(std::span<const uint64_t> words, size_t at) {
  constexpr size_t kAhead = 64 * kLine;
  __builtin_prefetch(words.data() + std::min(at + kAhead, words.size()));
}

bool AnySet(const uint64_t* line) {
  return ((line[0] | line[1] | line[2] | line[3]) | (line[4] | line[5] | line[6] | line[7])) != 0;
}

// Calls visit(first, end) for the lines of `words` that are not all zero, and for what is left when
// there is no whole line.
template <typename Word, typename Visit>
void ForEachSetLine(std::span<Word> words, const Visit& visit) {
  size_t first = 0;
  for (; first + kLine <= words.size(); first += kLine) {
    PrefetchAhead(words, first);
    if (AnySet(words.data() + first)) visit(first, first + kLine);
  }
  visit(first, words.size());
}

}  // namespace

size_t FindNonZero(std::span<const uint64_t> words, size_t from) {
  const size_t count = words.size();
  while (from < count && from % kLine != 0) {
    if (words[from] != 0) return from;
    ++from;
  }
  while (from + kLine <= count && !AnySet(words.data() + from)) {
    from += kLine;
    PrefetchAhead(words, from);
  }
  while (from < count && words[from] == 0) ++from;
  return from;
}

uint64_t CountSet(std::span<const uint64_t> words) {
  uint64_t count = 0;
  ForEachSetLine(words, [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) count += static_cast<uint64_t>(std::popcount(words[i]));
  });
  return count;
}

void MergeDirtyLog(std::span<const uint64_t> log, std::span<uint64_t> bitmap) {
  HAVEN_CHECK_EQ(log.size(), bitmap.size());
  ForEachSetLine(log, [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) bitmap[i] |= log[i];
  });
}

void MoveDirtyLog(std::span<uint64_t> log, std::span<uint64_t> bitmap) {
  HAVEN_CHECK_EQ(log.size(), bitmap.size());
  ForEachSetLine(log, [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i) {
      bitmap[i] |= log[i];
      log[i] = 0;
    }
  });
}

}  // namespace haven
