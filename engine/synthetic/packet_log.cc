// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/packet_log.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x4b505648;  // "HVPK"
constexpr size_t kMaxLogBytes = size_t{1} << 30;

}  // namespace

void EncodePacket(const SyntheticPacket& packet, std::span<std::byte> out) {
  HAVEN_CHECK_EQ(out.size(), kPacketRecordBytes);
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU32(packet.generation);
  writer.PutU64(packet.sequence);
  writer.PutU64(packet.writes);
  writer.PutU64(static_cast<uint64_t>(packet.emitted_ns));
  writer.PutU64(static_cast<uint64_t>(packet.released_ns));
  writer.PutU32(packet.vcpu);
  writer.PutU32(packet.pid);
  writer.PutU32(Crc32c(writer.written()));
  HAVEN_CHECK(writer.ok() && writer.remaining() == 0);
}

absl::StatusOr<SyntheticPacket> DecodePacket(std::span<const std::byte> record) {
  if (record.size() != kPacketRecordBytes) {
    return absl::DataLossError(
        absl::StrCat("packet record of ", record.size(), " bytes instead of ", kPacketRecordBytes));
  }
  ByteReader reader(record);
  const uint32_t magic = reader.GetU32();
  SyntheticPacket packet;
  packet.generation = reader.GetU32();
  packet.sequence = reader.GetU64();
  packet.writes = reader.GetU64();
  packet.emitted_ns = static_cast<int64_t>(reader.GetU64());
  packet.released_ns = static_cast<int64_t>(reader.GetU64());
  packet.vcpu = reader.GetU32();
  packet.pid = reader.GetU32();
  const uint32_t computed = Crc32c(record.first(reader.position()));
  const uint32_t crc = reader.GetU32();
  if (magic != kMagic || crc != computed) {
    return absl::DataLossError(absl::StrCat("packet record with magic ", absl::Hex(magic),
                                            " and CRC ", absl::Hex(crc), " instead of ",
                                            absl::Hex(kMagic), " and ", absl::Hex(computed)));
  }
  return packet;
}

absl::StatusOr<std::vector<SyntheticPacket>> ReadPacketLog(const std::string& path) {
  HAVEN_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxLogBytes));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  std::vector<SyntheticPacket> packets;
  for (size_t at = 0; at + kPacketRecordBytes <= bytes.size(); at += kPacketRecordBytes) {
    absl::StatusOr<SyntheticPacket> packet = DecodePacket(bytes.subspan(at, kPacketRecordBytes));
    if (!packet.ok()) {
      return absl::DataLossError(absl::StrCat(path, ", record ", at / kPacketRecordBytes, ": ",
                                              packet.status().message()));
    }
    packets.push_back(*packet);
  }
  return packets;
}

}  // namespace haven
