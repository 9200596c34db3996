// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/random_token.h"

#include <sys/random.h>

#include <cerrno>

#include "absl/status/status.h"

namespace haven {

absl::StatusOr<Token> MakeRandomToken() {
  Token token;
  // So few bytes are never delivered in part, nor interrupted by a signal.
  if (getrandom(token.data(), token.size(), GRND_NONBLOCK) != kTokenBytes) {
    return absl::ErrnoToStatus(errno, "getrandom");
  }
  return token;
}

}  // namespace haven
