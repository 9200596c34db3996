// SPDX-License-Identifier: Apache-2.0
//
// What a synthetic guest is made of: a guest for measuring replication without any hypervisor.
#ifndef HAVEN_ENGINE_SYNTHETIC_SPEC_H_
#define HAVEN_ENGINE_SYNTHETIC_SPEC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Shares are kept in parts per million, so that what a guest writes depends on integers only.
inline constexpr uint32_t kPpm = 1'000'000;

inline constexpr uint32_t kSyntheticMaxVcpus = 4;

// Longest text of a spec, in bytes: it travels in one control message.
inline constexpr size_t kSyntheticMaxSpecBytes = 640;

// One guest. The text form is "synthetic:key=value,key=value"; each field is a key of that form.
struct SyntheticSpec {
  // name: 1 to 63 bytes of [A-Za-z0-9._-], the first one no dot.
  std::string name = "synthetic";
  // mem: RAM in bytes, a multiple of the page size.
  uint64_t mem_bytes = uint64_t{256} << 20;
  // vcpus: threads that write; each owns an equal part of the RAM.
  uint32_t vcpus = 1;
  // dirty: writes a second, all vCPUs together. Each write changes one block of one page.
  uint64_t dirty_per_second = 2000;
  // block: bytes of one write, a power of two up to the page size.
  uint32_t block_bytes = 4096;
  // locality: share of the writes that go to the hot pages.
  uint32_t locality_ppm = 900'000;
  // hot: share of each vCPU's pages that are hot.
  uint32_t hot_ppm = 100'000;
  // fill: share of the pages written before the guest starts; the others are zero until written.
  uint32_t fill_ppm = 500'000;
  // output: packets a second, all vCPUs together.
  uint64_t output_per_second = 100;
  // packet: bytes that one packet takes in the output buffer.
  uint32_t packet_bytes = 1000;
  // gate: limit of the output buffer in bytes; packets beyond it are dropped.
  uint64_t gate_bytes = uint64_t{16} << 20;
  // seed: what the guest writes follows from the seed, the name and the fields up to `fill`.
  uint64_t seed = 1;
  // log: where packets go that leave the guest. A path: a file of records (packet_log.h) is
  // appended to; "unix:PATH": one datagram a packet is sent there; empty: nowhere.
  std::string log;
  // verify: a copy proves its memory equal to the epoch's state before it is allowed to run.
  bool verify = true;

  friend bool operator==(const SyntheticSpec&, const SyntheticSpec&) = default;
};

// Reads the text form; the word "synthetic" alone is a guest of defaults. Sizes take K, M or G
// (powers of 1024), shares are decimal fractions from 0 to 1. A path can hold no comma.
// InvalidArgument names the key, the value and what is allowed: unknown or repeated keys, numbers
// out of range, fields that do not fit each other, a text longer than kSyntheticMaxSpecBytes.
absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(absl::string_view text);

// Replaces the fields that may differ between the hosts of a guest: "log=PATH,verify=0". An empty
// text changes nothing. InvalidArgument as above, and for keys that must be the same everywhere;
// `spec` is then unchanged.
absl::Status OverrideSyntheticSpec(absl::string_view text, SyntheticSpec& spec);

// The text form with all fields, such that parsing it gives the same spec.
std::string FormatSyntheticSpec(const SyntheticSpec& spec);

// Key of everything the guest writes: of name, seed and the fields that shape the memory. Two specs
// with the same key describe the same memory for the same write counters.
uint64_t SyntheticContentKey(const SyntheticSpec& spec);

// The guest's UUID: 36 characters, lower case, version 8 (RFC 9562), from the content key. A copy
// has the UUID of its original.
std::string SyntheticUuid(const SyntheticSpec& spec);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_SPEC_H_
