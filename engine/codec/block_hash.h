// SPDX-License-Identifier: Apache-2.0
//
// Keyed hashes of blocks: what is kept of a page where its last acknowledged version is not.
#ifndef HAVEN_ENGINE_CODEC_BLOCK_HASH_H_
#define HAVEN_ENGINE_CODEC_BLOCK_HASH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "engine/codec/block_kernels.h"

namespace haven {

// The secret of one session. XXH3 (xxHash 0.8, 64 bits) takes its constants from it, so that a
// guest which knows the function can still not choose blocks that collide.
//
// A changed block is missed if both versions have the same hash: for content that does not depend
// on the secret the chance is about 2^-64 a changed block. At a million changed blocks a second
// that is one miss in 580 000 years of running. It is a statement about a good hash, not a proof:
// XXH3 is not a cryptographic function, and whoever knows the secret makes collisions at will (a
// block that equals the secret's bytes is multiplied by zero). So the secret never leaves the
// process. Where that is not enough the bytes are compared: a page cache for all of the guest
// (CodecOptions), and `verify`, which counts what the hashes would have missed.
class HashKey {
 public:
  static constexpr size_t kBytes = 192;

  // Zeros: holds the place of a secret that is not drawn yet.
  HashKey() : secret_{} {}

  // From given bytes, for tests.
  explicit HashKey(std::span<const std::byte, kBytes> bytes);

  // From the system's random source. Unavailable: it failed, with its error.
  static absl::StatusOr<HashKey> Random();

  // The hash of one block of 64, 128 or 256 bytes. Does not allocate.
  uint64_t Block(const std::byte* block, size_t bytes) const;

  // The hashes of all blocks of 1 << shift bytes of a page, into out[0 ..]. Does not allocate.
  void Page(const std::byte* page, unsigned shift, uint64_t* out) const;

 private:
  std::array<std::byte, kBytes> secret_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_BLOCK_HASH_H_
