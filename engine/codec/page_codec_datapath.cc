// SPDX-License-Identifier: Apache-2.0
//
// What changed in a page, what is kept of it, and the frame around the pages.
#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/codec/page_codec.h"

namespace haven {

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
