// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte for the number of vCPUs, then a state record as a peer sends it. The content key
// and the CRC are repaired.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/synthetic/state.h"

namespace haven {
namespace {

void RunOne(std::span<const std::byte> input) {
  if (input.empty()) return;
  SyntheticSpec spec;
  spec.vcpus = 1 + std::to_integer<uint32_t>(input[0]) % kSyntheticMaxVcpus;
  std::vector<std::byte> record(input.begin() + 1, input.end());
  if (record.size() == SyntheticStateBytes(spec.vcpus)) {
    StoreLe64(record.data() + 8, SyntheticContentKey(spec));
    const size_t crc_at = record.size() - 8;
    StoreLe32(record.data() + crc_at, Crc32c(std::span(record).first(crc_at)));
  }
  const absl::StatusOr<SyntheticState> state = DecodeSyntheticState(spec, record);
  if (!state.ok()) return;
  std::vector<std::byte> again(record.size());
  HAVEN_CHECK_OK(EncodeSyntheticState(spec, *state, again));
  HAVEN_CHECK(again == record);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
