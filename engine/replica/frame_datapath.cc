// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "engine/base/byte_order.h"
#include "engine/replica/frame.h"

namespace haven {
namespace {

constexpr size_t kTypeOffset = 0;
constexpr size_t kFlagsOffset = 1;
constexpr size_t kDomainOffset = 2;
constexpr size_t kCountOffset = 4;
constexpr size_t kValueOffset = 8;

}  // namespace

void EncodeFrameHeader(FrameType type, uint16_t domain, uint32_t count, uint64_t value,
                       std::span<std::byte, kFrameHeaderBytes> out) {
  StoreU8(out.data() + kTypeOffset, static_cast<uint8_t>(type));
  StoreU8(out.data() + kFlagsOffset, 0);
  StoreLe16(out.data() + kDomainOffset, domain);
  StoreLe32(out.data() + kCountOffset, count);
  StoreLe64(out.data() + kValueOffset, value);
}

bool FrameCursor::Next(Frame* frame) {
  if (!status_.ok() || offset_ == payload_.size()) return false;
  if (payload_.size() - offset_ < kFrameHeaderBytes) {
    return Fail("header", payload_.size() - offset_, "16 bytes long");
  }
  const std::byte* header = payload_.data() + offset_;
  const uint8_t type = LoadU8(header + kTypeOffset);
  const uint8_t flags = LoadU8(header + kFlagsOffset);
  const uint16_t domain = LoadLe16(header + kDomainOffset);
  const uint32_t count = LoadLe32(header + kCountOffset);
  const uint64_t value = LoadLe64(header + kValueOffset);
  // The payload lies in memory that a faulty peer could still write: nothing below may be computed
  // from a second load of what was checked.
  std::atomic_signal_fence(std::memory_order_seq_cst);

  if (flags != 0) return Fail("flags", flags, "0");
  if (count == 0) return Fail("count", count, "at least 1");
  uint64_t body_bytes = 0;
  // The one place that knows the types.
  switch (static_cast<FrameType>(type)) {
    case FrameType::kRawRun:
      body_bytes = uint64_t{count} * kPageBytes;
      [[fallthrough]];
    case FrameType::kZeroRun:
      if (value > UINT64_MAX - count) return Fail("first frame number", value, "without wrap");
      break;
    case FrameType::kState:
      body_bytes = count;
      if ((value & UINT32_MAX) + count > value >> 32) {
        return Fail("state fragment's end", (value & UINT32_MAX) + count, "within the total");
      }
      break;
    case FrameType::kCodedPages:
      body_bytes = value >> 32;
      break;
    default:
      return Fail("type", type, "1 .. 4");
  }
  const uint64_t padded_bytes = PaddedBodyBytes(body_bytes);
  if (padded_bytes > payload_.size() - offset_ - kFrameHeaderBytes) {
    return Fail("padded body bytes", padded_bytes, "within the payload");
  }
  const std::byte* body = header + kFrameHeaderBytes;
  for (uint64_t i = body_bytes; i < padded_bytes; ++i) {
    if (body[i] != std::byte{0}) return Fail("padding", LoadU8(body + i), "0");
  }
  *frame = Frame{.type = static_cast<FrameType>(type),
                 .domain = domain,
                 .count = count,
                 .value = value,
                 .body = {body, static_cast<size_t>(body_bytes)}};
  offset_ += kFrameHeaderBytes + static_cast<size_t>(padded_bytes);
  ++frame_count_;
  return true;
}

}  // namespace haven
