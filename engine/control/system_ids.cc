// SPDX-License-Identifier: Apache-2.0
#include "engine/control/system_ids.h"

#include <sys/random.h>

#include <cerrno>

#include "engine/base/check.h"

namespace haven {

uint64_t SystemIds::NextId() {
  uint64_t id = 0;
  while (id == 0) {
    // Requests of up to 256 bytes are never cut short, but may be interrupted before they begin.
    const ssize_t got = getrandom(&id, sizeof(id), 0);
    HAVEN_CHECK(got == sizeof(id) || errno == EINTR) << "getrandom: errno " << errno;
  }
  return id;
}

}  // namespace haven
