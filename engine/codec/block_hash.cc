// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/block_hash.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace haven {

HashKey::HashKey(std::span<const std::byte, kBytes> bytes) {
  std::ranges::copy(bytes, secret_.begin());
}

absl::StatusOr<HashKey> HashKey::Random() {
  // Requests of up to 256 bytes are answered whole or not at all.
  std::array<std::byte, kBytes> bytes;
  while (getrandom(bytes.data(), bytes.size(), 0) != ssize_t{kBytes}) {
    if (errno == EINTR) continue;
    return absl::UnavailableError(
        absl::StrCat("secret of the session's block hashes: getrandom: ", std::strerror(errno),
                     "; or protect with --codec=off"));
  }
  return HashKey(bytes);
}

}  // namespace haven
