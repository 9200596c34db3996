// SPDX-License-Identifier: Apache-2.0
//
// For the tests and fuzzers of the formats: bytes as text, damage with a repaired CRC, and a guest.
#ifndef HAVEN_ENGINE_REPLICA_TESTING_H_
#define HAVEN_ENGINE_REPLICA_TESTING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/replica/chunk.h"
#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"

namespace haven {

inline std::string ToHex(std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const std::byte byte : bytes) {
    hex += kDigits[std::to_integer<unsigned>(byte) >> 4];
    hex += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return hex;
}

inline std::vector<std::byte> FromHex(std::string_view hex) {
  HAVEN_CHECK_EQ(hex.size() % 2, 0u);
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const std::string digits(hex.substr(i, 2));
    bytes.push_back(static_cast<std::byte>(std::strtoul(digits.c_str(), nullptr, 16)));
  }
  return bytes;
}

inline std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Writes `width` (1, 2, 4 or 8) little-endian bytes of `value` at `offset`.
inline void Poke(std::span<std::byte> bytes, size_t offset, size_t width, uint64_t value) {
  HAVEN_CHECK_LE(offset + width, bytes.size());
  for (size_t i = 0; i < width; ++i) {
    bytes[offset + i] = static_cast<std::byte>(value >> (8 * i));
  }
}

// Makes the CRC in the last four bytes of a section fit the rest.
inline void RepairSection(std::span<std::byte> section) {
  const size_t crc_offset = section.size() - sizeof(uint32_t);
  StoreLe32(section.data() + crc_offset, Crc32c(section.first(crc_offset)));
}

// Offsets in a chunk's header.
inline constexpr size_t kChunkPayloadBytesOffset = 32;
inline constexpr size_t kChunkPayloadCrcOffset = 40;

// Makes both CRCs of a chunk fit its bytes. Of the payload, as far as it lies in the slot.
inline void RepairChunk(std::span<std::byte> slot) {
  const uint32_t payload_bytes = LoadLe32(slot.data() + kChunkPayloadBytesOffset);
  const std::span<const std::byte> payload = slot.subspan(
      kChunkHeaderBytes, std::min<size_t>(payload_bytes, slot.size() - kChunkHeaderBytes));
  StoreLe32(slot.data() + kChunkPayloadCrcOffset, Crc32c(payload));
  RepairSection(slot.first(kChunkHeaderBytes));
}

// A guest of `page_count` frames that are all RAM but for `holes`. Nothing is mapped: for code that
// looks at frame numbers only.
inline GuestMemory MakeGuest(uint64_t page_count, std::initializer_list<Gfn> holes = {}) {
  std::vector<uint64_t> ram((page_count + 63) / 64, ~uint64_t{0});
  for (const Gfn gfn : holes) ram[gfn >> 6] &= ~(uint64_t{1} << (gfn & 63));
  return GuestMemory({}, std::move(ram), page_count);
}

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_TESTING_H_
