// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_CRC32C_H_
#define HAVEN_ENGINE_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace haven {

// CRC-32C (Castagnoli) as in RFC 3720 appendix B.4 and RFC 9260: reflected polynomial 0x82f63b78,
// initial value and final XOR 0xffffffff. The check value of "123456789" is 0xe3069283; that of no
// bytes is 0.
//
// Computed by ISA-L, which picks the fastest instructions of the processor. Allocates nothing;
// thread-safe.
uint32_t Crc32c(std::span<const std::byte> bytes);

// The CRC of some bytes with CRC `crc`, followed by `bytes`: ExtendCrc32c(Crc32c(a), b) == Crc32c(a
// followed by b).
uint32_t ExtendCrc32c(uint32_t crc, std::span<const std::byte> bytes);

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_CRC32C_H_
