// SPDX-License-Identifier: Apache-2.0
//
// The record of a page that changed: the cheapest of zero, same-as, patch and raw.
#include <bit>
#include <cstring>

#include "engine/codec/byte_runs.h"
#include "engine/codec/page_codec.h"

namespace haven {
namespace {

// Below this many bytes a block, runs are smaller than a reference would be.
constexpr size_t kReferenceBytes = 12;
// After this many blocks without a hit only every kSparse-th block of a page is looked up.
constexpr uint32_t kMissesBeforeSparse = 4;
constexpr uint32_t kSparse = 8;

size_t CopyBytes(const CodedPage& page) {
  size_t bytes = page.copy_count == 0 ? 0 : 1;
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    bytes += 3 + VarintBytes(copy.domain) + VarintBytes(copy.gfn);
  }
  return bytes;
}

// Most runs are short: those take a load and a store, where there is room for what comes along, as
// the next run writes over it.
void CopyRun(const std::byte* page, const ByteRun& run, const std::byte* room_end, std::byte* to) {
  constexpr size_t kShort = 16;
  if (run.bytes <= kShort && run.at + kShort <= kPageBytes &&
      static_cast<size_t>(room_end - to) >= kShort) {
    std::memcpy(to, page + run.at, kShort);
  } else {
    std::memcpy(to, page + run.at, run.bytes);
  }
}

}  // namespace

void PageCodec::WriteRaw(CodecWorker& worker, const CodecPage& page) {
  CodedPage& record = worker.page_;
  CodecWorker::RawPage* earlier = nullptr;
  if (settings_.sharing) {
    earlier = &worker.raw_pages_[key_.Block(page.bytes, kLineBytes) % kMaxCodedPages];
    if (earlier->bytes != nullptr && std::memcmp(earlier->bytes, page.bytes, kPageBytes) == 0) {
      record.kind = PageKind::kSame;
      record.same_in_frame = true;
      record.same_index = earlier->index;
      worker.directory_.Append(record);
      ++worker.counters_.same;
      return;
    }
    *earlier = {.index = worker.directory_.records(), .bytes = page.bytes};
  }
  record.kind = PageKind::kRaw;
  worker.directory_.Append(record);
  ++worker.counters_.raw;
  std::byte* to = TakeRoom(worker, kPageBytes);
  if (to != nullptr) std::memcpy(to, page.bytes, kPageBytes);
}

std::byte* PageCodec::TakeRoom(CodecWorker& worker, size_t bytes) {
  if (bytes > worker.literals_.size() - worker.literal_bytes_) {
    worker.overflow_ = true;
    return nullptr;
  }
  std::byte* at = worker.literals_.data() + worker.literal_bytes_;
  worker.literal_bytes_ += bytes;
  return at;
}

bool PageCodec::TrySame(CodecWorker& worker, const CodecPage& page, uint32_t slot) {
  if (std::memcmp(cache_.Bytes(slot), page.bytes, kPageBytes) != 0) return false;
  CodedPage& record = worker.page_;
  record.kind = PageKind::kSame;
  record.same_in_frame = false;
  record.same_domain = cache_.domain(slot);
  record.same_gfn = cache_.gfn(slot);
  record.copy_count = record.run_count = 0;
  worker.directory_.Append(record);
  ++worker.counters_.same;
  return true;
}

bool PageCodec::Share(CodecWorker& worker, const CodecPage& page, const Change& change,
                      uint64_t* blocks) {
  const unsigned shift = options_.block_shift;
  const size_t block_bytes = size_t{1} << shift;
  const uint32_t page_blocks = static_cast<uint32_t>(kPageBytes >> shift);
  CodedPage& record = worker.page_;
  bool whole_tried = false;
  uint32_t misses = 0;
  for (uint64_t left = *blocks; left != 0;) {
    const uint32_t block = static_cast<uint32_t>(std::countr_zero(left));
    left &= left - 1;
    if (misses > kMissesBeforeSparse && block % kSparse != 0) continue;
    const std::byte* bytes = page.bytes + (size_t{block} << shift);
    const uint64_t name = block_name_(key_, bytes, block_bytes);
    const uint32_t where = index_.Find(name);
    const uint32_t slot = (where - 1) / kMaxPageBlocks;
    const uint32_t from = (where - 1) % kMaxPageBlocks;
    // The entry is a hint from any time and for any content: the bytes decide.
    if (where == BlockIndex::kNone || !cache_.IsStable(slot) || from >= page_blocks ||
        std::memcmp(cache_.Bytes(slot) + (size_t{from} << shift), bytes, block_bytes) != 0) {
      ++misses;
      if (change.slot != PageCache::kNoSlot) {
        index_.Put(name, change.slot * uint32_t{kMaxPageBlocks} + block + 1);
      }
      continue;
    }
    misses = 0;
    if (from == block && !whole_tried) {
      whole_tried = true;
      if (TrySame(worker, page, slot)) return true;
    }
    // What was skipped before the hit may belong to it as well.
    const std::byte* there = cache_.Bytes(slot);
    const auto equal = [&](uint32_t at, uint32_t source) {
      return (*blocks >> at & 1) != 0 &&
             std::memcmp(there + (size_t{source} << shift), page.bytes + (size_t{at} << shift),
                         block_bytes) == 0;
    };
    uint32_t back = 0;
    while (back < block && back < from && equal(block - back - 1, from - back - 1)) ++back;
    const uint32_t first = block - back;
    const uint32_t source = from - back;
    uint32_t count = back + 1;
    while (first + count < page_blocks && source + count < page_blocks &&
           equal(first + count, source + count)) {
      ++count;
    }
    const uint64_t covered = (~uint64_t{0} >> (64 - count)) << first;
    left &= ~covered;
    *blocks &= ~covered;
    worker.counters_.shared_blocks += count;
    record.copies[record.copy_count++] = {.first = static_cast<uint8_t>(first),
                                          .blocks = static_cast<uint8_t>(count),
                                          .from = static_cast<uint8_t>(source),
                                          .domain = cache_.domain(slot),
                                          .gfn = cache_.gfn(slot)};
  }
  return false;
}

void PageCodec::WritePatch(CodecWorker& worker, const CodecPage& page, const Change& change) {
  const unsigned shift = options_.block_shift;
  CodedPage& record = worker.page_;
  // What did not change need not be looked at, but for a page that may be zero as a whole.
  const uint64_t changed = BlocksToLines(change.blocks, shift);
  const auto nonzero_of = [&](uint64_t lines) {
    return change.stored ? change.nonzero & lines : kernels_.nonzero_lines(page.bytes, lines);
  };
  const uint64_t nonzero = nonzero_of(changed);
  if (nonzero == 0 && nonzero_of(~uint64_t{0}) == 0) {
    record.kind = PageKind::kZero;
    worker.directory_.Append(record);
    ++worker.counters_.zero;
    return;
  }
  uint64_t rest = change.blocks;
  if (settings_.changed_blocks) record.zeros = rest & ~LinesToBlocks(nonzero, shift);
  rest &= ~record.zeros;

  const size_t mask_bytes = (kPageBytes >> shift) / 8;
  size_t run_cost = SIZE_MAX;
  const auto find_runs = [&] {
    const size_t block_cost = mask_bytes + (static_cast<size_t>(std::popcount(rest)) << shift);
    record.run_count = 0;
    run_cost = SIZE_MAX;
    if (change.before == nullptr || !change.known || !settings_.byte_runs || rest == 0) return;
    if (!FindByteRuns(kernels_, change.before, page.bytes,
                      change.lines & BlocksToLines(rest, shift), block_cost, &record, &run_cost)) {
      run_cost = SIZE_MAX;
      record.run_count = 0;
    }
  };
  find_runs();
  const size_t rest_blocks = static_cast<size_t>(std::popcount(rest));
  worker.counters_.changed_blocks += static_cast<uint64_t>(std::popcount(change.blocks));
  if (sharing_ && rest_blocks > 0 && run_cost > kReferenceBytes * rest_blocks) {
    const bool whole = Share(worker, page, change, &rest);
    worker.looked_blocks_ += rest_blocks;
    worker.found_blocks_ +=
        whole ? rest_blocks : rest_blocks - static_cast<size_t>(std::popcount(rest));
    if (whole) return;
    if (record.copy_count != 0) find_runs();
  }
  const size_t literals = run_cost != SIZE_MAX
                              ? run_cost
                              : mask_bytes + (static_cast<size_t>(std::popcount(rest)) << shift);
  if (CopyBytes(record) + (record.zeros != 0 ? mask_bytes : 0) + literals >= kPageBytes) {
    record.copy_count = record.run_count = 0;
    WriteRaw(worker, page);
    return;
  }
  record.kind = PageKind::kPatch;
  record.blocks = record.run_count != 0 ? 0 : rest;
  worker.directory_.Append(record);
  ++worker.counters_.patched;
  size_t bytes = static_cast<size_t>(std::popcount(record.blocks)) << shift;
  for (const ByteRun& run : std::span(record.runs).first(record.run_count)) bytes += run.bytes;
  std::byte* to = TakeRoom(worker, bytes);
  if (to == nullptr) return;
  ForEachStretch(record.blocks, shift, [&](size_t at, size_t stretch) {
    std::memcpy(to, page.bytes + at, stretch);
    to += stretch;
  });
  const std::byte* const room_end = worker.literals_.data() + worker.literals_.size();
  for (const ByteRun& run : std::span(record.runs).first(record.run_count)) {
    CopyRun(page.bytes, run, room_end, to);
    to += run.bytes;
  }
}

}  // namespace haven
