// SPDX-License-Identifier: Apache-2.0
//
// The state record of a synthetic guest: what a hypervisor would keep of vCPUs and devices.
#ifndef HAVEN_ENGINE_SYNTHETIC_STATE_H_
#define HAVEN_ENGINE_SYNTHETIC_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/synthetic/spec.h"
#include "engine/synthetic/workload.h"

namespace haven {

// The guest at one instant, apart from its memory.
struct SyntheticState {
  // 1 in the guest that was started first, one more in each copy that was promoted.
  uint32_t generation = 1;
  // How often the guest has been stopped, this time included: a name for the instant.
  uint64_t stops = 0;
  // Number of the next packet; all packets sent before have smaller ones.
  uint64_t next_sequence = 1;
  // One a vCPU of the spec; the others stay as they are here.
  std::array<VcpuState, kSyntheticMaxVcpus> vcpus;

  friend bool operator==(const SyntheticState&, const SyntheticState&) = default;
};

// Bytes of a record, all integers little-endian:
//   0 magic "HVSG" u32, 4 version u16, 6 vCPUs u16, 8 content key u64, 16 generation u32, 20 zero
//   u32, 24 stops u64, 32 next sequence u64, 40 {writes u64, checksum u64} a vCPU, then the
//   CRC-32C of all before as u32 and four bytes of zero.
constexpr size_t SyntheticStateBytes(uint32_t vcpus) { return 40 + size_t{16} * vcpus + 8; }

inline constexpr size_t kSyntheticMaxStateBytes = SyntheticStateBytes(kSyntheticMaxVcpus);

// Writes the record to the front of `out`, which has SyntheticStateBytes(spec.vcpus) bytes or more,
// and returns its size. ResourceExhausted: `out` is too small.
absl::StatusOr<size_t> EncodeSyntheticState(const SyntheticSpec& spec, const SyntheticState& state,
                                            std::span<std::byte> out);

// InvalidArgument names the field and its value: wrong size, magic, version, number of vCPUs, a
// guest of another content key, a checksum that does not fit, a counter out of range.
absl::StatusOr<SyntheticState> DecodeSyntheticState(const SyntheticSpec& spec,
                                                    std::span<const std::byte> record);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_STATE_H_
