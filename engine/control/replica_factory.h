// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_REPLICA_FACTORY_H_
#define HAVEN_ENGINE_CONTROL_REPLICA_FACTORY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/backup/replica_domain.h"
#include "engine/replica/control_message.h"

namespace haven {

// The seam to whatever builds copies of guests on a backup. Used from a session's thread.
class ReplicaFactory {
 public:
  virtual ~ReplicaFactory() = default;

  // Builds a copy that waits. It has at least the frames that `domain` says are RAM. The primary
  // waits for it no longer than its own deadline for opening a session. ResourceExhausted: too
  // little memory here; else the guest can not be built, with the reason.
  virtual absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_REPLICA_FACTORY_H_
