// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte, odd for the primary's and even for the backup's, then a heartbeat section, as it
// lies in the control block. Its CRC is repaired.
#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/base/check.h"
#include "engine/replica/heartbeat.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

void RunOne(std::span<const std::byte> input) {
  if (input.empty()) return;
  const HeartbeatSender sender = (input[0] & std::byte{1}) != std::byte{0}
                                     ? HeartbeatSender::kPrimary
                                     : HeartbeatSender::kBackup;
  const std::span<const std::byte> section = input.subspan(1);
  Heartbeat heartbeat;
  if (section.size() < kHeartbeatBytes) {
    HAVEN_CHECK(!DecodeHeartbeat(sender, section, &heartbeat).ok());
    return;
  }
  std::array<std::byte, kHeartbeatBytes> bytes;
  std::ranges::copy(section.first(kHeartbeatBytes), bytes.begin());
  RepairSection(bytes);
  if (!DecodeHeartbeat(sender, bytes, &heartbeat).ok()) return;
  std::array<std::byte, kHeartbeatBytes> again;
  EncodeHeartbeat(sender, heartbeat, again);
  HAVEN_CHECK(again == bytes) << "counter=" << heartbeat.counter;
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
