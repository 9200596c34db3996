// SPDX-License-Identifier: Apache-2.0
//
// ISA-L's igzip at level 1, raw deflate: a peer, and what the codec would gain by it.
#ifndef HAVEN_BENCH_IGZIP_H_
#define HAVEN_BENCH_IGZIP_H_

#include <isa-l/igzip_lib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace haven {

// Not thread-safe.
class Igzip {
 public:
  Igzip() : level_(ISAL_DEF_LVL1_DEFAULT) {}

  // The bytes written to `to`; 0 if the result does not fit.
  size_t Compress(std::span<const std::byte> from, std::span<std::byte> to);

  // True if `from` expands to exactly `to.size()` bytes.
  bool Expand(std::span<const std::byte> from, std::span<std::byte> to);

 private:
  std::vector<uint8_t> level_;
  isal_zstream stream_;
  inflate_state inflate_;
};

}  // namespace haven

#endif  // HAVEN_BENCH_IGZIP_H_
