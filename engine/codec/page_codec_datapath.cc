// SPDX-License-Identifier: Apache-2.0
//
// What changed in a page, what is kept of it, and the frame around the pages.
#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/codec/page_codec.h"
#include "engine/codec/word_packing.h"

namespace haven {
namespace {

void StoreLines(const std::byte* from, uint64_t lines, std::byte* to) {
  constexpr int kMostApart = 32;  // Above that the whole page is copied faster.
  if (std::popcount(lines) > kMostApart) {
    std::memcpy(to, from, kPageBytes);
    return;
  }
  for (uint64_t left = lines; left != 0; left &= left - 1) {
    const size_t at = static_cast<size_t>(std::countr_zero(left)) * kLineBytes;
    std::memcpy(to + at, from + at, kLineBytes);
  }
}

}  // namespace

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
  const bool cached = change.slot != PageCache::kNoSlot;
  const bool entering = change.before == nullptr && hashes_.Has(domain, page.gfn);
  const bool by_hash = options_.hashes && (!cached || entering);
  if (!by_hash && !(options_.verify && cached)) return change;
  uint64_t hashed = 0;
  const bool had = hashes_.Replace(domain, page.gfn, page.bytes, &hashed);
  if (change.before != nullptr) {
    const uint64_t missed = had ? change.blocks & ~hashed : 0;
    worker.counters_.missed_blocks += static_cast<uint64_t>(std::popcount(missed));
  } else if (by_hash) {
    change.blocks = hashed;
    change.known = had;
  }
  return change;
}

// What the processor foresees by itself ends with the page that it is at.
void PageCodec::Prefetch(uint16_t domain, const CodecPage& page) const {
  constexpr size_t kLines = 8;
  const auto fetch = [](const std::byte* from) {
    for (size_t at = 0; at < kLines * kLineBytes; at += kLineBytes) __builtin_prefetch(from + at);
  };
  fetch(page.bytes);
  const uint32_t slot = cache_.Find(domain, page.gfn);
  if (slot != PageCache::kNoSlot) fetch(cache_.Bytes(slot));
}

void PageCodec::StoreBaseline(const CodecPage& page, const Change& change) {
  if (change.slot == PageCache::kNoSlot) return;
  if (!change.stored) StoreLines(page.bytes, change.lines, cache_.Bytes(change.slot));
  cache_.SetEncoded(change.slot);
}

void PageCodec::EncodePage(CodecWorker& worker, uint16_t domain, const CodecPage& page) {
  Change change = FindChange(worker, domain, page);
  if (change.slot != PageCache::kNoSlot && change.before == nullptr) {
    change.nonzero = kernels_.copy_page(page.bytes, cache_.Bytes(change.slot));
    change.stored = true;
  }
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

EncodedFrame PageCodec::EncodeFrame(CodecWorker& worker, uint16_t domain,
                                    std::span<const CodecPage> pages, std::span<std::byte> out) {
  HAVEN_CHECK(open_);
  HAVEN_CHECK_LE(pages.size(), kMaxCodedPages);
  worker.directory_.Begin(options_.block_shift);
  worker.literal_bytes_ = 0;
  worker.overflow_ = out.size() < kPackedHeaderBytes;
  worker.literals_ =
      worker.overflow_ ? std::span<std::byte>()
      : settings_.compression != Compression::kNone
          ? std::span(worker.content_).subspan(kMaskRoom, kMaxDirectoryBytes + kMaxLiteralBytes)
          : out.subspan(kCodedHeaderBytes);
  worker.looked_blocks_ = worker.found_blocks_ = 0;
  worker.raw_pages_.fill({});
  const uint64_t zero_before = worker.counters_.zero;
  for (size_t i = 0; i < pages.size(); ++i) {
    if (i + 1 < pages.size()) Prefetch(domain, pages[i + 1]);
    EncodePage(worker, domain, pages[i]);
  }
  if (worker.looked_blocks_ != 0) {
    sharing_gate_.Note(worker.looked_blocks_, worker.found_blocks_);
  }
  if (worker.directory_.records() == 0) return {.outcome = EncodedFrame::Outcome::kUnchanged};
  const size_t zero_pages = static_cast<size_t>(worker.counters_.zero - zero_before);
  const size_t body_bytes = WriteBody(worker, out);
  // Zero pages alone are smallest as runs.
  if (body_bytes == 0 || body_bytes >= (pages.size() - zero_pages) * kPageBytes) {
    return {.outcome = EncodedFrame::Outcome::kPlain};
  }
  worker.counters_.literal_bytes += worker.literal_bytes_;
  worker.counters_.directory_bytes += worker.directory_.written().size();
  worker.counters_.body_bytes += body_bytes;
  return {.outcome = EncodedFrame::Outcome::kCoded,
          .first_gfn = worker.directory_.first_gfn(),
          .records = worker.directory_.records(),
          .body_bytes = body_bytes};
}

// Returns the body's bytes; 0 if it does not fit.
size_t PageCodec::WriteBody(CodecWorker& worker, std::span<std::byte> out) {
  const std::span<const std::byte> directory = worker.directory_.written();
  const std::span<std::byte> literals = worker.literals_.first(worker.literal_bytes_);
  if (worker.overflow_ || directory.size() > worker.literals_.size() - literals.size()) return 0;
  std::span<std::byte> stored = literals;
  if (settings_.compression != Compression::kNone) {
    if (settings_.packing) stored = PackLiterals(literals);
    const size_t bytes = WriteCompressed(worker, stored, out);
    if (bytes != 0) return bytes;
    // What does not compress goes as it is.
    const std::span<std::byte> room = out.subspan(kCodedHeaderBytes);
    if (literals.size() + directory.size() > room.size()) return 0;
    if (settings_.packing) {
      HAVEN_CHECK(UnpackLiterals(stored, room.first(literals.size())));
    } else {
      std::memcpy(room.data(), literals.data(), literals.size());
    }
  }
  std::memcpy(out.data() + kCodedHeaderBytes + literals.size(), directory.data(), directory.size());
  WriteHeader(worker, Compression::kNone, 0, out);
  return kCodedHeaderBytes + literals.size() + directory.size();
}

// `stored`: the literals as they are compressed, with room for the directory behind them. Returns
// the body's bytes; 0 if it does not fit or is no smaller.
size_t PageCodec::WriteCompressed(CodecWorker& worker, std::span<std::byte> stored,
                                  std::span<std::byte> out) {
  const std::span<const std::byte> directory = worker.directory_.written();
  std::memcpy(stored.data() + stored.size(), directory.data(), directory.size());
  const std::span<const std::byte> content(stored.data(), stored.size() + directory.size());
  const size_t header_bytes = settings_.packing ? kPackedHeaderBytes : kCodedHeaderBytes;
  const std::span<std::byte> room = out.subspan(header_bytes);
  const size_t bytes = worker.compressor_.Compress(
      settings_.compression, content, room.first(std::min(room.size(), content.size() - 1)));
  if (bytes == 0) return 0;
  WriteHeader(worker, settings_.compression, settings_.packing ? kPackedFlag : uint16_t{0}, out);
  if (settings_.packing) {
    StoreLe32(out.data() + kCodedHeaderBytes, static_cast<uint32_t>(stored.size()));
  }
  return header_bytes + bytes;
}

void PageCodec::WriteHeader(const CodecWorker& worker, Compression method, uint16_t flags,
                            std::span<std::byte> out) const {
  ByteWriter header(out.first(kCodedHeaderBytes));
  header.PutU8(static_cast<uint8_t>(method));
  header.PutU8(static_cast<uint8_t>(options_.block_shift));
  header.PutU16(flags);
  header.PutU32(static_cast<uint32_t>(worker.literal_bytes_));
  header.PutU32(static_cast<uint32_t>(worker.directory_.written().size()));
}

}  // namespace haven
