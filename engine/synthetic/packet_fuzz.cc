// SPDX-License-Identifier: Apache-2.0
//
// Input: the record of one packet that a guest has let out.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/synthetic/packet_log.h"

namespace haven {
namespace {

void RunOne(std::span<const std::byte> input) {
  DecodePacket(input).IgnoreError();
  if (input.size() < kPacketRecordBytes) return;
  // With a checksum that fits: what is behind it is reached, too.
  std::array<std::byte, kPacketRecordBytes> record;
  std::copy_n(input.begin(), record.size(), record.begin());
  constexpr size_t kBefore = kPacketRecordBytes - sizeof(uint32_t);
  StoreLe32(record.data() + kBefore, Crc32c(std::span(record).first(kBefore)));
  const absl::StatusOr<SyntheticPacket> packet = DecodePacket(record);
  if (!packet.ok()) return;
  std::array<std::byte, kPacketRecordBytes> again;
  EncodePacket(*packet, again);
  HAVEN_CHECK(again == record);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
