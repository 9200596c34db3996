// SPDX-License-Identifier: Apache-2.0
//
// What heartbeat, acknowledgement, commit record and chunk header have in common: a fixed size, a
// magic and a version at the front, a CRC32C over everything before it in the last four bytes, and
// a peer that may be writing them while they are read.
#ifndef HAVEN_ENGINE_REPLICA_SECTION_H_
#define HAVEN_ENGINE_REPLICA_SECTION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/byte_order.h"

namespace haven {

// The magic that reads "HV" and these two letters in a memory dump.
constexpr uint32_t SectionMagic(char third, char fourth) {
  return uint32_t{'H'} | uint32_t{'V'} << 8 | uint32_t{static_cast<uint8_t>(third)} << 16 |
         uint32_t{static_cast<uint8_t>(fourth)} << 24;
}

inline constexpr size_t kSectionCrcBytes = 4;

// Writes the CRC of `section` into its last four bytes and returns it.
uint32_t SealSection(std::span<std::byte> section);

// Copies the first copy.size() bytes of `in` to `copy`, once, and checks the copy: its CRC, then
// its magic and version. `what` names the structure in errors. NotFound: all bytes are zero.
// DataLoss: the CRC does not fit. InvalidArgument: `in` is too short, another magic or version.
// Does not allocate if OK.
absl::Status SnapshotSection(absl::string_view what, uint32_t magic, std::span<const std::byte> in,
                             std::span<std::byte> copy);

// InvalidArgument unless the next `bytes` bytes, the reserved field at the reader's position, are
// zero.
absl::Status CheckReserved(absl::string_view what, ByteReader& reader, size_t bytes);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_SECTION_H_
