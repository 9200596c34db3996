// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/manual_arbiter.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_manual_request.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {

ManualArbiter::ManualArbiter(std::string directory)
    : directory_(std::move(directory)), register_(directory_) {}

RegisterAnswer ManualArbiter::Read(absl::string_view group, absl::Duration timeout) {
  return register_.Read(group, timeout);
}

RegisterAnswer ManualArbiter::CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                            absl::Duration timeout) {
  const Deadline deadline(timeout);
  if (const absl::Status valid = ValidateRequest(request); !valid.ok()) {
    return UnknownAnswer(Describe(), group, valid);
  }
  for (;;) {
    const RegisterAnswer seen = register_.Read(group, deadline.Remaining());
    if (seen.verdict == Verdict::kUnknown) return seen;
    const absl::StatusOr<ChangeStep> step = DecideChange(seen.current, request);
    if (!step.ok()) return UnknownAnswer(Describe(), group, step.status());
    const absl::StatusOr<SharedDirectory> directory = SharedDirectory::Open(directory_);
    if (!directory.ok()) return UnknownAnswer(Describe(), group, directory.status());
    if (*step != ChangeStep::kWrite) {
      // Resolved, so nobody is to be asked any more. Should the removal fail, the file is void: it
      // is neither listed nor accepted.
      directory->Remove(ManualRequestFileName(group, request.desired.stamp)).IgnoreError();
      return *step == ChangeStep::kGranted ? GrantedAnswer(seen.current)
                                           : DeniedAnswer(seen.current);
    }
    const absl::StatusOr<Word> word = Post(*directory, group, request, deadline);
    if (!word.ok()) return UnknownAnswer(Describe(), group, word.status());
    if (*word == Word::kDenied) return DeniedAnswer(seen.current);
    if (deadline.Passed()) {
      RegisterAnswer answer = StillWaiting(group, request);
      answer.current = seen.current;
      return answer;
    }
    deadline.Pause(kPollInterval);
  }
}

absl::StatusOr<ManualArbiter::Word> ManualArbiter::Post(const SharedDirectory& directory,
                                                        absl::string_view group,
                                                        const RegisterRequest& request,
                                                        const Deadline& deadline) const {
  const std::string name = ManualRequestFileName(group, request.desired.stamp);
  HAVEN_ASSIGN_OR_RETURN(LockedFile file,
                         directory.OpenLocked(name, SharedDirectory::Lock::kExclusive,
                                              SharedDirectory::IfMissing::kCreate, deadline));
  HAVEN_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAll(kManualRequestMaxBytes));
  if (bytes.empty()) {
    HAVEN_RETURN_IF_ERROR(
        file.WriteAt(0, EncodeManualRequest(directory_, group, request, absl::Now())));
    HAVEN_RETURN_IF_ERROR(file.Sync());
    HAVEN_RETURN_IF_ERROR(directory.Sync());
    return Word::kWaiting;
  }
  const absl::StatusOr<ManualRequest> posted = DecodeManualRequest(bytes);
  if (!posted.ok()) {
    return absl::DataLossError(absl::StrCat(directory.PathOf(name),
                                            " is damaged: ", posted.status().message(),
                                            "; remove it and the request is put there again"));
  }
  if (posted->group != group || posted->request.expected != request.expected ||
      posted->request.desired != request.desired) {
    return absl::InternalError(
        absl::StrCat(directory.PathOf(name), " holds another request of the same id: it asks for '",
                     FormatRegister(posted->request.desired), "' instead of '",
                     FormatRegister(request.desired), "'"));
  }
  return posted->denied ? Word::kDenied : Word::kWaiting;
}

RegisterAnswer ManualArbiter::StillWaiting(absl::string_view group,
                                           const RegisterRequest& request) const {
  const RequestId id = request.desired.stamp;
  return UnknownAnswer(
      Describe(), group,
      absl::UnavailableError(absl::StrCat("waits for an operator's answer: read ", directory_, "/",
                                          ManualRequestFileName(group, id), " and type '",
                                          ManualAnswerCommand(directory_, group, id, "approve"),
                                          "' (or 'deny')")));
}

std::string ManualArbiter::Describe() const { return absl::StrCat("manual:", directory_); }

}  // namespace haven
