// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/codec/block_hash.h"

namespace haven {
namespace {

// The size is a constant for the compiler, which leaves nothing of the library's branches.
template <size_t kBlockBytes>
void HashBlocks(const std::byte* page, const std::byte* secret, uint64_t* out) {
  for (size_t at = 0; at < kPageBytes; at += kBlockBytes) {
    *out++ = XXH3_64bits_withSecret(page + at, kBlockBytes, secret, HashKey::kBytes);
  }
}

}  // namespace

uint64_t HashKey::Block(const std::byte* block, size_t bytes) const {
  return XXH3_64bits_withSecret(block, bytes, secret_.data(), kBytes);
}

void HashKey::Page(const std::byte* page, unsigned shift, uint64_t* out) const {
  switch (shift) {
    case 6:
      return HashBlocks<64>(page, secret_.data(), out);
    case 7:
      return HashBlocks<128>(page, secret_.data(), out);
    default:
      return HashBlocks<256>(page, secret_.data(), out);
  }
}

}  // namespace haven
