// SPDX-License-Identifier: Apache-2.0
//
// Frames on a byte stream as QEMU's "-netdev stream" sends them: a length of four bytes, most
// significant first, then the frame.
#ifndef HAVEN_TESTS_LAB_HUB_FRAME_STREAM_H_
#define HAVEN_TESTS_LAB_HUB_FRAME_STREAM_H_

#include <cstddef>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace haven {

// QEMU's own limit (NET_BUFSIZE).
inline constexpr size_t kFrameBytesMax = 4096 + 65536;

// Appends `frame` with its length to `out`. At most kFrameBytesMax.
void AppendFrame(std::span<const std::byte> frame, std::vector<std::byte>& out);

// Cuts what arrives into frames. Not thread-safe.
class FrameReader {
 public:
  // Takes the next bytes and calls `receive` for each frame that they complete. DataLoss: a length
  // above kFrameBytesMax; the stream is of no use any more.
  absl::Status Add(std::span<const std::byte> bytes,
                   absl::FunctionRef<void(std::span<const std::byte>)> receive);

 private:
  std::vector<std::byte> pending_;  // The beginning of a frame with its length.
};

}  // namespace haven

#endif  // HAVEN_TESTS_LAB_HUB_FRAME_STREAM_H_
