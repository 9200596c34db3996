// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_GUEST_SET_H_
#define HAVEN_ENGINE_CONTROL_GUEST_SET_H_

#include <functional>
#include <memory>
#include <string>
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
  // Of each guest that is named and does not exist any more: a message that says so.
  std::vector<std::string> ended;
};

// Takes hold of those guests that a record names and that exist. NotFound: there is none of them;
// InvalidArgument: one is of an unknown kind. What may pass: FailedPrecondition, another process
// has hold of one; Unavailable, DeadlineExceeded, ResourceExhausted, one does not answer. Each
// names the guest.
using AttachGuests = std::function<absl::StatusOr<GuestSet>(const GroupRecord& record)>;

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GUEST_SET_H_
