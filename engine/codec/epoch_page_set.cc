// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/epoch_page_set.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

EpochPageSet::EpochPageSet(std::span<const uint64_t> page_counts) {
  for (const uint64_t pages : page_counts) {
    Domain& domain = domains_.emplace_back();
    domain.pages = pages;
    for (Bits* bits : {&domain.written, &domain.sources}) {
      bits->words.resize((pages + 63) / 64);
      bits->used.reserve(bits->words.size());
    }
  }
}

void EpochPageSet::Begin() {
  for (Domain& domain : domains_) {
    for (Bits* bits : {&domain.written, &domain.sources}) {
      for (const uint32_t word : bits->used) bits->words[word] = 0;
      bits->used.clear();
    }
  }
}

void EpochPageSet::Set(Bits& bits, size_t word, uint64_t more) {
  if (bits.words[word] == 0) bits.used.push_back(static_cast<uint32_t>(word));
  bits.words[word] |= more;
}

bool EpochPageSet::AddWritten(uint16_t domain, Gfn first, uint64_t count) {
  Domain& own = domains_[domain];
  HAVEN_CHECK_LE(first, own.pages);
  HAVEN_CHECK_LE(count, own.pages - first);
  // 64 pages at a time.
  for (const Gfn end = first + count; first < end;) {
    const Gfn word_end = std::min(end, (first | 63) + 1);
    const uint64_t bits = (~uint64_t{0} >> (64 - (word_end - first))) << (first & 63);
    const size_t word = static_cast<size_t>(first >> 6);
    if ((own.sources.words[word] & bits) != 0 && !HAVEN_MUTANT(kReferToWritten)) return false;
    Set(own.written, word, bits);
    first = word_end;
  }
  return true;
}

bool EpochPageSet::AddSource(uint16_t domain, Gfn gfn) {
  if (domain >= domains_.size()) return false;
  Domain& own = domains_[domain];
  if (gfn >= own.pages) return false;
  if (Has(own.written, gfn) && !HAVEN_MUTANT(kReferToWritten)) return false;
  Set(own.sources, static_cast<size_t>(gfn >> 6), uint64_t{1} << (gfn & 63));
  return true;
}

size_t EpochPageSet::memory_bytes() const {
  size_t bytes = 0;
  for (const Domain& domain : domains_) {
    for (const Bits* bits : {&domain.written, &domain.sources}) {
      bytes += bits->words.size() * (sizeof(bits->words[0]) + sizeof(bits->used[0]));
    }
  }
  return bytes;
}

}  // namespace haven
