// SPDX-License-Identifier: Apache-2.0
#include "engine/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace haven {
namespace {

// ISA-L takes the length as an int.
constexpr size_t kPieceMaxBytes = size_t{1} << 30;

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes) { return ExtendCrc32c(0, bytes); }

// crc32_iscsi works on the bare shift register: it inverts neither the value it is given nor the
// one it returns. A finished CRC is the inverse of the register, hence both inversions are done
// here.
uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes) {
  uint32_t shift_register = ~crc;
  while (!bytes.empty()) {
    const std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kPieceMaxBytes));
    // The prototype lacks a const; the function only reads.
    unsigned char* data =
        const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(piece.data()));
    shift_register = crc32_iscsi(data, static_cast<int>(piece.size()), shift_register);
    bytes = bytes.subspan(piece.size());
  }
  return ~shift_register;
}

}  // namespace haven
