// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_GUEST_SET_H_
#define HAVEN_ENGINE_CONTROL_GUEST_SET_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/control/group_record.h"
#include "engine/primary/domain.h"
#include "engine/primary/output_buffer.h"

namespace haven {

// A process' hold on the guests of one group. Letting go changes nothing in the guests.
struct GuestSet {
  std::vector<std::unique_ptr<Domain>> domains;
  std::vector<std::unique_ptr<SuspendMethod>> suspends;  // One for each domain.
  std::unique_ptr<OutputBuffer> output;                  // Of all of them.
};

// Takes hold of the guests that a record names. NotFound: one of them does not exist (any more);
// FailedPrecondition: another process has hold of it; Unavailable: it does not answer.
using AttachGuests = std::function<absl::StatusOr<GuestSet>(const GroupRecord& record)>;

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GUEST_SET_H_
