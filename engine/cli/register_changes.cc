// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/register_changes.h"

#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/control/guard.h"
#include "engine/control/status_file.h"
#include "engine/control/system_ids.h"
#include "engine/membership/arbiter_factory.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {

namespace {

// Asks once. FailedPrecondition: denied, and what the register says; else the arbiter's cause.
absl::Status Change(const GroupRecord& record, const RegisterRequest& request) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  const RegisterAnswer answer =
      arbiter->CompareAndSet(record.group, request, absl::Microseconds(record.arbiter_timeout_us));
  if (answer.verdict == Verdict::kUnknown) return answer.cause;
  if (answer.verdict == Verdict::kDenied) {
    return absl::FailedPreconditionError(absl::StrCat("group ", record.group,
                                                      ": the arbiter denies it; the register says ",
                                                      FormatRegisterOrAbsent(answer.current)));
  }
  HAVEN_LOG(kWarning, "arbiter") << "group=" << record.group
                                 << " has a new register: " << FormatRegister(request.desired);
  return absl::OkStatus();
}

}  // namespace

std::string NodeOf(const std::string& owner) { return owner.substr(0, owner.rfind('.')); }

absl::Status CreateRegister(const GroupDirectory& directory, const GroupRecord& record) {
  if (record.phase != GroupPhase::kProtecting) {
    return absl::FailedPreconditionError(absl::StrCat(
        "group ", record.group,
        ": a register is created for a copy that was protected and not deposed; this one is not"));
  }
  RegisterRequest request;
  const absl::StatusOr<StatusFile> status =
      ReadStatusFile(directory.StatusPath(record.group), SystemClock::Get());
  request.desired.term = status.ok() ? status->snapshot.registered.term + 1 : 1;
  request.desired.owner = record.owner;
  request.desired.mode = RegisterMode::kSolo;
  request.desired.stamp = SystemIds().NextId();
  const absl::Status changed = Change(record, request);
  if (!absl::IsFailedPrecondition(changed)) return changed;
  return absl::FailedPreconditionError(absl::StrCat(
      changed.message(), ". Without --create-register the guard goes by what is there"));
}

absl::Status TakeOverRegister(const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const std::optional<Register> current, ReadRegister(record));
  if (!current.has_value() || NodeOf(current->owner) == NodeOf(record.owner)) {
    return absl::OkStatus();
  }
  if (current->mode != RegisterMode::kNone) {
    return absl::FailedPreconditionError(absl::StrCat("group ", record.group, " belongs to ",
                                                      FormatRegister(*current), ": ",
                                                      OwnedElsewhere(*current)));
  }
  RegisterRequest request;
  request.expected = current;
  request.desired = *current;
  request.desired.term = current->term + 1;
  request.desired.owner = record.owner;
  request.desired.stamp = SystemIds().NextId();
  return Change(record, request);
}

}  // namespace haven
