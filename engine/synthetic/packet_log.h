// SPDX-License-Identifier: Apache-2.0
//
// The packets of a synthetic guest as an outside observer sees them.
#ifndef HAVEN_ENGINE_SYNTHETIC_PACKET_LOG_H_
#define HAVEN_ENGINE_SYNTHETIC_PACKET_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace haven {

// One packet. A guest numbers its packets in the order in which it emits them.
struct SyntheticPacket {
  // From 1, without gaps; a number that never appears was dropped at the buffer's limit.
  uint64_t sequence = 0;
  // Which incarnation emitted it (SyntheticState::generation).
  uint32_t generation = 0;
  uint32_t vcpu = 0;
  // Writes that `vcpu` had carried out by then: the memory that this packet tells the world of.
  uint64_t writes = 0;
  // When it was emitted, and when it left the guest's host: CLOCK_MONOTONIC in nanoseconds.
  int64_t emitted_ns = 0;
  int64_t released_ns = 0;
  // Process of the guest that let it go.
  uint32_t pid = 0;

  friend bool operator==(const SyntheticPacket&, const SyntheticPacket&) = default;
};

// Bytes of one record, all integers little-endian: 0 magic "HVPK" u32, 4 generation u32,
// 8 sequence u64, 16 writes u64, 24 emitted u64, 32 released u64, 40 vCPU u32, 44 pid u32,
// 48 CRC-32C of all before u32.
inline constexpr size_t kPacketRecordBytes = 52;

// `out` has exactly kPacketRecordBytes bytes.
void EncodePacket(const SyntheticPacket& packet, std::span<std::byte> out);

// DataLoss: wrong size, magic, number or CRC.
absl::StatusOr<SyntheticPacket> DecodePacket(std::span<const std::byte> record);

// Where packets go that have left the guest. Not thread-safe.
class PacketSink {
 public:
  virtual ~PacketSink() = default;

  // Takes some packets in their order and returns how many of them will never arrive: what is sent
  // to a network that does not take it is lost. At most kBatch at once. Does not block but for the
  // disk.
  virtual size_t Send(std::span<const SyntheticPacket> packets) = 0;

  static constexpr size_t kBatch = 256;
};

// The sink that a spec's `log` names. A file is created with mode 0600 and only ever appended to,
// in whole records, so that a guest and its promoted copy on one host may share it and their order
// there is the order in the world. A datagram socket must exist and is sent one record a datagram.
// The cause, if the file or the socket's directory can not be opened.
absl::StatusOr<std::unique_ptr<PacketSink>> OpenPacketSink(const std::string& log);

// Reads a whole log file. An unfinished record at its end (a guest killed while it wrote) is left
// out. NotFound; DataLoss naming the record that is not sound.
absl::StatusOr<std::vector<SyntheticPacket>> ReadPacketLog(const std::string& path);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_PACKET_LOG_H_
