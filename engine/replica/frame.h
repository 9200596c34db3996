// SPDX-License-Identifier: Apache-2.0
//
// Frames: the content of a chunk's payload (docs/replica-format.md). A frame is a header of 16
// bytes and a body, padded with zero bytes to a multiple of 16.
//
//   type       value                       count                    body
//   raw run    first frame number          pages                    count * 4096 bytes
//   zero run   first frame number          pages                    none
//   state      offset | total << 32        bytes of this fragment   the fragment
//   coded      first frame number |        pages                    engine/codec/coded_page.h
//              body bytes << 32
//
// Order, over all chunks of an epoch: runs and coded pages first, strictly ascending by (domain,
// frame number) and without overlap; then states, ascending by domain, the fragments of one state
// in their order.
#ifndef HAVEN_ENGINE_REPLICA_FRAME_H_
#define HAVEN_ENGINE_REPLICA_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/identity.h"

namespace haven {

inline constexpr size_t kFrameHeaderBytes = 16;
inline constexpr size_t kFrameAlignment = 16;

enum class FrameType : uint8_t {
  kRawRun = 1,
  kZeroRun = 2,
  kState = 3,
  kCodedPages = 4,  // Needs a feature of kCodecFeatures (features.h).
};

// One decoded frame. `body` points into the chunk and is without the padding.
struct Frame {
  FrameType type = FrameType::kRawRun;
  uint16_t domain = 0;
  uint32_t count = 0;
  uint64_t value = 0;
  std::span<const std::byte> body;

  // Of a run or of coded pages.
  Gfn first_gfn() const {
    return type == FrameType::kCodedPages ? static_cast<uint32_t>(value) : value;
  }
  // Of a state: where the fragment belongs, and the size of the whole state, in bytes.
  uint32_t state_offset() const { return static_cast<uint32_t>(value); }
  uint32_t state_total() const { return static_cast<uint32_t>(value >> 32); }
};

// Writes a frame's header: `value` as the table above says. Does not allocate.
void EncodeFrameHeader(FrameType type, uint16_t domain, uint32_t count, uint64_t value,
                       std::span<std::byte, kFrameHeaderBytes> out);

// Size of a body with its padding.
inline constexpr uint64_t PaddedBodyBytes(uint64_t body_bytes) {
  return (body_bytes + kFrameAlignment - 1) & ~uint64_t{kFrameAlignment - 1};
}

// Walks the frames of one payload in place, without allocation. Stays inside the payload whatever
// its bytes are, and checks each frame by itself: known type, flags and padding zero, a count of at
// least 1, a body that lies in the payload, a run that does not wrap, a fragment within its total.
// What needs the guest or other frames (order, RAM, limits) is EpochValidator's, and what is in the
// body of coded pages CodedFrameCheck's.
//
//   FrameCursor cursor(ChunkPayload(slot, header));
//   Frame frame;
//   while (cursor.Next(&frame)) { ... }
//   if (!cursor.status().ok()) ...
class FrameCursor {
 public:
  // `payload` must outlive the cursor and the frames it returns.
  explicit FrameCursor(std::span<const std::byte> payload) : payload_(payload) {}

  // Sets `*frame` to the next frame and returns true; false at the end or at the first bad frame,
  // which status() tells apart.
  bool Next(Frame* frame);

  // OK, or InvalidArgument naming the frame's number and offset, the field and its value.
  const absl::Status& status() const { return status_; }

  // Frames returned so far.
  uint32_t frame_count() const { return frame_count_; }

 private:
  bool Fail(const char* field, uint64_t value, const char* rule);

  std::span<const std::byte> payload_;
  size_t offset_ = 0;
  uint32_t frame_count_ = 0;
  absl::Status status_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_FRAME_H_
