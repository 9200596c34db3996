// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_SYSTEM_IDS_H_
#define HAVEN_ENGINE_CONTROL_SYSTEM_IDS_H_

#include <cstdint>

#include "engine/membership/register_client.h"

namespace haven {

// Ids from the kernel's random generator (getrandom(2)): never 0, and never the same twice with a
// probability that 64 random bits give. Thread-safe. Blocks only on a host that has just been
// switched on and has no randomness yet.
class SystemIds final : public IdSource {
 public:
  uint64_t NextId() override;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SYSTEM_IDS_H_
