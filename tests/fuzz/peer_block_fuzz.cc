// SPDX-License-Identifier: Apache-2.0
//
// Input: the front of a peer block, the acknowledgement and behind it the backup's heartbeat. Both
// CRCs are repaired.
#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/base/check.h"
#include "engine/replica/peer_block.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr size_t kUsedBytes = kBackupHeartbeatOffset + kHeartbeatBytes;

void RunOne(std::span<const std::byte> input) {
  Ack ack;
  if (input.size() < kUsedBytes) {
    HAVEN_CHECK(!DecodeAck(input.first(std::min(input.size(), kAckBytes - 1)), &ack).ok());
    return;
  }
  std::array<std::byte, kUsedBytes> bytes;
  std::ranges::copy(input.first(kUsedBytes), bytes.begin());
  const std::span<std::byte, kAckBytes> ack_bytes = std::span(bytes).first<kAckBytes>();
  const std::span<std::byte, kHeartbeatBytes> heartbeat_bytes =
      std::span(bytes).subspan<kBackupHeartbeatOffset, kHeartbeatBytes>();
  RepairSection(ack_bytes);
  RepairSection(heartbeat_bytes);

  if (DecodeAck(ack_bytes, &ack).ok()) {
    std::array<std::byte, kAckBytes> again;
    EncodeAck(ack, again);
    HAVEN_CHECK(std::ranges::equal(again, ack_bytes)) << "epoch=" << ack.committed_epoch;
    HAVEN_CHECK_LE(ack.applied_epoch, ack.committed_epoch);
  }
  Heartbeat heartbeat;
  if (DecodeHeartbeat(HeartbeatSender::kBackup, heartbeat_bytes, &heartbeat).ok()) {
    std::array<std::byte, kHeartbeatBytes> again;
    EncodeHeartbeat(HeartbeatSender::kBackup, heartbeat, again);
    HAVEN_CHECK(std::ranges::equal(again, heartbeat_bytes)) << "counter=" << heartbeat.counter;
  }
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
