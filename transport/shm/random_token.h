// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_RANDOM_TOKEN_H_
#define HAVEN_TRANSPORT_SHM_RANDOM_TOKEN_H_

#include <array>
#include <cstddef>

#include "absl/status/statusor.h"

namespace haven {

inline constexpr size_t kTokenBytes = 16;

// An unguessable name, for one use.
using Token = std::array<std::byte, kTokenBytes>;

// From getrandom(2). Unavailable: the kernel has gathered no randomness yet (early in its boot).
absl::StatusOr<Token> MakeRandomToken();

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_RANDOM_TOKEN_H_
