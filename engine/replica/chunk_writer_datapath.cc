// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/layout.h"

namespace haven {

void ChunkWriter::Reset(std::span<std::byte> slot) {
  HAVEN_CHECK_GT(slot.size(), kChunkHeaderBytes);
  HAVEN_CHECK_LE(slot.size(), kMaxSlotBytes);
  HAVEN_CHECK_EQ(slot.size() % kFrameAlignment, 0u);
  slot_ = slot;
  used_ = kChunkHeaderBytes;
  totals_ = ChunkTotals();
}

uint32_t ChunkWriter::raw_pages_left() const {
  if (bytes_left() < kFrameHeaderBytes) return 0;
  return static_cast<uint32_t>((bytes_left() - kFrameHeaderBytes) / kPageBytes);
}

uint32_t ChunkWriter::state_bytes_left() const {
  // Slot and frames are multiples of kFrameAlignment, so padding never decides.
  if (bytes_left() < kFrameHeaderBytes) return 0;
  return static_cast<uint32_t>(bytes_left() - kFrameHeaderBytes);
}

std::span<std::byte> ChunkWriter::AppendRawRun(uint16_t domain, Gfn first, uint32_t pages) {
  HAVEN_CHECK_GE(pages, 1u);
  if (pages > raw_pages_left()) return {};
  totals_.page_count += pages;
  return AppendFrame(FrameType::kRawRun, domain, pages, first, size_t{pages} * kPageBytes);
}

bool ChunkWriter::AppendZeroRun(uint16_t domain, Gfn first, uint32_t pages) {
  HAVEN_CHECK_GE(pages, 1u);
  if (!zero_run_fits()) return false;
  totals_.page_count += pages;
  AppendFrame(FrameType::kZeroRun, domain, pages, first, 0);
  return true;
}

bool ChunkWriter::AppendState(uint16_t domain, uint32_t offset, uint32_t total,
                              std::span<const std::byte> fragment) {
  HAVEN_CHECK_GE(fragment.size(), 1u);
  HAVEN_CHECK_LE(offset + uint64_t{fragment.size()}, total);
  if (fragment.size() > state_bytes_left()) return false;
  const std::span<std::byte> body =
      AppendFrame(FrameType::kState, domain, static_cast<uint32_t>(fragment.size()),
                  uint64_t{total} << 32 | offset, fragment.size());
  std::memcpy(body.data(), fragment.data(), fragment.size());
  return true;
}

bool ChunkWriter::AppendCoded(uint16_t domain, uint32_t first, uint32_t pages,
                              std::span<const std::byte> body) {
  HAVEN_CHECK_GE(pages, 1u);
  // As for a state: padding never decides.
  if (body.size() > state_bytes_left()) return false;
  const std::span<std::byte> room = AppendFrame(FrameType::kCodedPages, domain, pages,
                                                uint64_t{body.size()} << 32 | first, body.size());
  std::memcpy(room.data(), body.data(), body.size());
  totals_.page_count += pages;
  return true;
}

std::span<std::byte> ChunkWriter::AppendFrame(FrameType type, uint16_t domain, uint32_t count,
                                              uint64_t value, size_t body_bytes) {
  const std::span<std::byte> room = slot_.subspan(used_);
  EncodeFrameHeader(type, domain, count, value, room.first<kFrameHeaderBytes>());
  const size_t padded_bytes = static_cast<size_t>(PaddedBodyBytes(body_bytes));
  const std::span<std::byte> body = room.subspan(kFrameHeaderBytes, padded_bytes);
  const std::span<std::byte> padding = body.subspan(body_bytes);
  if (!padding.empty()) std::memset(padding.data(), 0, padding.size());
  used_ += kFrameHeaderBytes + padded_bytes;
  totals_.frame_count += 1;
  return body.first(body_bytes);
}

ChunkTotals ChunkWriter::Finish(const ChunkIdentity& identity) {
  HAVEN_CHECK(!empty()) << "epoch=" << identity.epoch << " chunk=" << identity.index;
  totals_.payload_bytes = static_cast<uint32_t>(used_ - kChunkHeaderBytes);
  const ChunkHeader header{
      .identity = identity,
      .payload_bytes = totals_.payload_bytes,
      .frame_count = totals_.frame_count,
      .payload_crc = Crc32c(slot_.subspan(kChunkHeaderBytes, totals_.payload_bytes))};
  totals_.chunk_crc = EncodeChunkHeader(header, slot_.first<kChunkHeaderBytes>());
  const ChunkTotals finished = totals_;
  slot_ = {};
  used_ = 0;
  totals_ = ChunkTotals();
  return finished;
}

}  // namespace haven
