// SPDX-License-Identifier: Apache-2.0
//
// Input: one control message with its envelope. The length in the envelope is also tried as
// repaired, so that cuts and insertions reach the fields.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/replica/control_message.h"

namespace haven {
namespace {

constexpr size_t kLengthOffset = 8;

// What is accepted has exactly one encoding, and it is this one.
void DecodeAndCompare(std::span<const std::byte> input) {
  const absl::StatusOr<ControlMessage> message = DecodeControlMessage(input);
  if (!message.ok()) {
    HAVEN_CHECK(!message.status().message().empty());
    return;
  }
  const absl::StatusOr<std::vector<std::byte>> again = EncodeControlMessage(*message);
  HAVEN_CHECK_OK(again);
  HAVEN_CHECK(std::ranges::equal(*again, input));
  const absl::StatusOr<size_t> bytes = ControlMessageBytes(input.first(kControlEnvelopeBytes));
  HAVEN_CHECK_OK(bytes);
  HAVEN_CHECK_EQ(*bytes, input.size());
}

void RunOne(std::span<const std::byte> input) {
  DecodeAndCompare(input);
  if (input.size() < kControlEnvelopeBytes) return;
  std::vector<std::byte> repaired(input.begin(), input.end());
  StoreLe32(repaired.data() + kLengthOffset,
            static_cast<uint32_t>(repaired.size() - kControlEnvelopeBytes));
  DecodeAndCompare(repaired);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
