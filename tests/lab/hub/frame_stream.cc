// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/frame_stream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {
namespace {

constexpr size_t kLengthBytes = 4;

size_t LengthAt(std::span<const std::byte> bytes) {
  size_t length = 0;
  for (const std::byte byte : bytes.first(kLengthBytes)) {
    length = length << 8 | std::to_integer<size_t>(byte);
  }
  return length;
}

}  // namespace

void AppendFrame(std::span<const std::byte> frame, std::vector<std::byte>& out) {
  HAVEN_CHECK_LE(frame.size(), kFrameBytesMax);
  for (size_t shift = kLengthBytes * 8; shift > 0; shift -= 8) {
    out.push_back(static_cast<std::byte>(frame.size() >> (shift - 8) & 0xff));
  }
  out.insert(out.end(), frame.begin(), frame.end());
}

absl::Status FrameReader::Add(std::span<const std::byte> bytes,
                              absl::FunctionRef<void(std::span<const std::byte>)> receive) {
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  std::span<const std::byte> rest = pending_;
  while (rest.size() >= kLengthBytes) {
    const size_t length = LengthAt(rest);
    if (length > kFrameBytesMax) {
      return absl::DataLossError(
          absl::StrCat("a frame of ", length, " bytes; the limit is ", kFrameBytesMax));
    }
    if (rest.size() - kLengthBytes < length) break;
    receive(rest.subspan(kLengthBytes, length));
    rest = rest.subspan(kLengthBytes + length);
  }
  pending_.erase(pending_.begin(), pending_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  return absl::OkStatus();
}

}  // namespace haven
