// SPDX-License-Identifier: Apache-2.0
//
// Input: the front of a control message; the rest is zero.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "engine/base/check.h"
#include "engine/synthetic/control_message.h"

namespace haven {
namespace {

void RunOne(std::span<const std::byte> input) {
  GuestMessage message;
  if (input.size() > kGuestMessageBytes) {
    HAVEN_CHECK(!DecodeGuestMessage(input, message).ok());
    return;
  }
  std::array<std::byte, kGuestMessageBytes> bytes{};
  std::ranges::copy(input, bytes.begin());
  if (!DecodeGuestMessage(bytes, message).ok()) return;
  std::array<std::byte, kGuestMessageBytes> encoded;
  EncodeGuestMessage(message, encoded);
  GuestMessage again;
  HAVEN_CHECK_OK(DecodeGuestMessage(encoded, again));
  HAVEN_CHECK(again.op == message.op && again.code == message.code && again.id == message.id);
  HAVEN_CHECK(again.values == message.values && again.text() == message.text());
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
