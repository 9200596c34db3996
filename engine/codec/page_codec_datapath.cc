// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/codec/page_codec.h"

namespace haven {
namespace {

// Unchanged bytes between two runs that cost no more than a run of their own.
constexpr uint32_t kMaxBridge = 2;
// Below this many bytes a block, runs are smaller than a reference would be.
constexpr size_t kReferenceBytes = 12;
// After this many blocks without a hit only every kSparse-th block of a page is looked up.
constexpr uint32_t kMissesBeforeSparse = 4;
constexpr uint32_t kSparse = 8;

// Finds the changed bytes of the lines in the mask. False: more runs than a record holds, or no
// smaller than `limit` bytes. `*cost` is what they take in directory and literals.
bool FindRuns(const BlockKernels& kernels, const std::byte* before, const std::byte* after,
              uint64_t lines, size_t limit, CodedPage* page, size_t* cost) {
  uint32_t count = 0;
  uint32_t last_end = 0;  // Of the runs before runs[count - 1].
  size_t bytes = 0;       // Of the runs before runs[count - 1].
  for (; lines != 0; lines &= lines - 1) {
    const uint32_t line = static_cast<uint32_t>(std::countr_zero(lines)) * uint32_t{kLineBytes};
    uint64_t changed = kernels.changed_bytes(before + line, after + line);
    while (changed != 0) {
      const uint32_t skip = static_cast<uint32_t>(std::countr_zero(changed));
      const uint32_t length = static_cast<uint32_t>(std::countr_one(changed >> skip));
      const uint32_t at = line + skip;
      changed = skip + length == kLineBytes ? 0 : changed >> (skip + length) << (skip + length);
      ByteRun* last = count == 0 ? nullptr : &page->runs[count - 1];
      if (last != nullptr && at - (uint32_t{last->at} + last->bytes) <= kMaxBridge) {
        last->bytes = static_cast<uint16_t>(at + length - last->at);
        continue;
      }
      if (last != nullptr) {
        bytes += VarintBytes(last->at - last_end) + VarintBytes(last->bytes - 1u) + last->bytes;
        last_end = uint32_t{last->at} + last->bytes;
      }
      if (count == kMaxByteRuns || bytes >= limit) return false;
      page->runs[count++] = {.at = static_cast<uint16_t>(at),
                             .bytes = static_cast<uint16_t>(length)};
    }
  }
  if (count != 0) {
    const ByteRun& last = page->runs[count - 1];
    bytes += VarintBytes(last.at - last_end) + VarintBytes(last.bytes - 1u) + last.bytes;
  }
  bytes += VarintBytes(count);
  page->run_count = count;
  *cost = bytes;
  return bytes < limit;
}

size_t CopyBytes(const CodedPage& page) {
  size_t bytes = page.copy_count == 0 ? 0 : 1;
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    bytes += 3 + VarintBytes(copy.domain) + VarintBytes(copy.gfn);
  }
  return bytes;
}

}  // namespace

// What is known of a page's change.
struct PageCodec::Change {
  uint32_t slot = PageCache::kNoSlot;
  const std::byte* before = nullptr;  // The version that the replica holds, if its bytes are kept.
  bool known = false;                 // `blocks` are those that changed; else it is all of them.
  uint64_t lines = ~uint64_t{0};
  uint64_t blocks = 0;
};

PageCodec::Change PageCodec::FindChange(CodecWorker& worker, uint16_t domain,
                                        const CodecPage& page) {
  Change change{.blocks = AllBlocks(options_.block_shift)};
  change.slot = cache_.Find(domain, page.gfn);
  if (change.slot != PageCache::kNoSlot && cache_.HasBaseline(change.slot)) {
    change.before = cache_.Bytes(change.slot);
    change.lines = kernels_.changed_lines(change.before, page.bytes);
    change.blocks = LinesToBlocks(change.lines, options_.block_shift);
    change.known = true;
  }
  if (!hashes_.enabled()) return change;
  const bool uncached = change.slot == PageCache::kNoSlot;
  const bool entering = change.before == nullptr && hashes_.Has(domain, page.gfn);
  if (!uncached && !entering && !options_.verify) return change;
  uint64_t hashed = 0;
  const bool had = hashes_.Replace(domain, page.gfn, page.bytes, &hashed);
  if (change.before == nullptr) {
    change.blocks = hashed;
    change.known = had;
  } else if (had) {
    worker.counters_.missed_blocks += static_cast<uint64_t>(std::popcount(change.blocks & ~hashed));
  }
  return change;
}

void PageCodec::StoreBaseline(const CodecPage& page, const Change& change) {
  if (change.slot == PageCache::kNoSlot) return;
  std::byte* kept = cache_.Bytes(change.slot);
  if (change.before == nullptr || std::popcount(change.lines) > 32) {
    std::memcpy(kept, page.bytes, kPageBytes);
  } else {
    for (uint64_t left = change.lines; left != 0; left &= left - 1) {
      const size_t at = static_cast<size_t>(std::countr_zero(left)) * kLineBytes;
      std::memcpy(kept + at, page.bytes + at, kLineBytes);
    }
  }
  cache_.SetEncoded(change.slot);
}

void PageCodec::EncodePage(CodecWorker& worker, uint16_t domain, const CodecPage& page) {
  Change change = FindChange(worker, domain, page);
  ++worker.counters_.pages;
  if (!settings_.changed_blocks) {
    change.known = false;
    change.blocks = AllBlocks(options_.block_shift);
  }
  CodedPage& record = worker.page_;
  record.gfn = page.gfn;
  record.copy_count = record.run_count = 0;
  record.zeros = record.blocks = 0;
  if (change.known && change.blocks == 0) {
    ++worker.counters_.unchanged;
  } else {
    WritePatch(worker, page, change);
  }
  StoreBaseline(page, change);
}

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
  // One changed line is rarely a zero page, and a look at the page costs as much as the rest.
  const bool few = change.known && std::popcount(change.lines) < 2;
  const uint64_t nonzero = few ? ~uint64_t{0} : kernels_.nonzero_lines(page.bytes);
  if (nonzero == 0) {
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
    if (!FindRuns(kernels_, change.before, page.bytes, change.lines & BlocksToLines(rest, shift),
                  block_cost, &record, &run_cost)) {
      run_cost = SIZE_MAX;
      record.run_count = 0;
    }
  };
  find_runs();
  const size_t rest_blocks = static_cast<size_t>(std::popcount(rest));
  worker.counters_.changed_blocks += static_cast<uint64_t>(std::popcount(change.blocks));
  if (settings_.sharing && rest_blocks > 0 && run_cost > kReferenceBytes * rest_blocks) {
    if (Share(worker, page, change, &rest)) return;
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
  for (const ByteRun& run : std::span(record.runs).first(record.run_count)) {
    std::memcpy(to, page.bytes + run.at, run.bytes);
    to += run.bytes;
  }
}

EncodedFrame PageCodec::EncodeFrame(CodecWorker& worker, uint16_t domain,
                                    std::span<const CodecPage> pages, std::span<std::byte> out) {
  HAVEN_CHECK(open_);
  HAVEN_CHECK_LE(pages.size(), kMaxCodedPages);
  worker.directory_.Begin(options_.block_shift);
  worker.literal_bytes_ = 0;
  worker.overflow_ = out.size() < kCodedHeaderBytes;
  worker.literals_ = worker.overflow_                              ? std::span<std::byte>()
                     : settings_.compression != Compression::kNone ? std::span(worker.packing_)
                                                                   : out.subspan(kCodedHeaderBytes);
  worker.raw_pages_.fill({});
  const uint64_t zero_before = worker.counters_.zero;
  for (const CodecPage& page : pages) EncodePage(worker, domain, page);
  if (worker.directory_.records() == 0) return {.outcome = EncodedFrame::Outcome::kUnchanged};
  const size_t zero_pages = static_cast<size_t>(worker.counters_.zero - zero_before);
  const size_t plain_bytes = (pages.size() - zero_pages) * kPageBytes;
  return FinishFrame(worker, worker.directory_.first_gfn(), plain_bytes, out);
}

EncodedFrame PageCodec::FinishFrame(CodecWorker& worker, uint32_t first_gfn, size_t plain_bytes,
                                    std::span<std::byte> out) {
  const EncodedFrame plain{.outcome = EncodedFrame::Outcome::kPlain};
  const std::span<const std::byte> directory = worker.directory_.written();
  const size_t literal_bytes = worker.literal_bytes_;
  if (worker.overflow_ || directory.size() > worker.literals_.size() - literal_bytes) return plain;
  std::memcpy(worker.literals_.data() + literal_bytes, directory.data(), directory.size());
  const std::span<std::byte> content = worker.literals_.first(literal_bytes + directory.size());
  const std::span<std::byte> room = out.subspan(kCodedHeaderBytes);
  Compression method = settings_.compression;
  size_t packed = content.size();
  if (method != Compression::kNone) {
    packed = worker.compressor_.Compress(method, content,
                                         room.first(std::min(room.size(), content.size() - 1)));
    if (packed == 0) {
      if (content.size() > room.size()) return plain;
      method = Compression::kNone;
      packed = content.size();
      std::memcpy(room.data(), content.data(), packed);
    }
  }
  const size_t body_bytes = kCodedHeaderBytes + packed;
  // Zero pages alone are smallest as runs.
  if (body_bytes >= plain_bytes) return plain;
  ByteWriter header(out.first(kCodedHeaderBytes));
  header.PutU8(static_cast<uint8_t>(method));
  header.PutU8(static_cast<uint8_t>(options_.block_shift));
  header.PutU16(0);
  header.PutU32(static_cast<uint32_t>(literal_bytes));
  header.PutU32(static_cast<uint32_t>(directory.size()));
  worker.counters_.literal_bytes += literal_bytes;
  worker.counters_.directory_bytes += directory.size();
  worker.counters_.body_bytes += body_bytes;
  return {.outcome = EncodedFrame::Outcome::kCoded,
          .first_gfn = first_gfn,
          .records = worker.directory_.records(),
          .body_bytes = body_bytes};
}

}  // namespace haven
