// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_manual_answers.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"
#include "engine/membership/arbiter_storage.h"
#include "engine/membership/file_arbiter.h"

namespace haven {
namespace {

struct OpenRequest {
  LockedFile file;
  ManualRequest content;
};

// nullopt: the file is there and empty; whoever asks has not finished asking.
absl::StatusOr<std::optional<OpenRequest>> OpenRequestFile(const SharedDirectory& directory,
                                                           const std::string& name,
                                                           SharedDirectory::Lock lock,
                                                           const Deadline& deadline) {
  HAVEN_ASSIGN_OR_RETURN(
      LockedFile file,
      directory.OpenLocked(name, lock, SharedDirectory::IfMissing::kFail, deadline));
  HAVEN_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAll(kManualRequestMaxBytes));
  if (bytes.empty()) return std::optional<OpenRequest>();
  absl::StatusOr<ManualRequest> content = DecodeManualRequest(bytes);
  if (!content.ok()) {
    return absl::DataLossError(
        absl::StrCat(directory.PathOf(name), " is damaged: ", content.status().message()));
  }
  if (ManualRequestFileName(content->group, content->request.desired.stamp) != name) {
    return absl::DataLossError(
        absl::StrCat(directory.PathOf(name), " holds the request of another file: that of group ",
                     content->group, ", '", FormatRegister(content->request.desired), "'"));
  }
  return std::optional<OpenRequest>(OpenRequest{std::move(file), *std::move(content)});
}

absl::Status Void(const std::optional<Register>& current) {
  return absl::FailedPreconditionError(
      absl::StrCat("the request is void: the register has changed since it was asked and holds '",
                   FormatRegisterOrAbsent(current), "' now; nothing was changed"));
}

// An approved change leaves every other request of the group void. Their files are only in the
// way: what can not be removed is neither listed nor accepted either.
void RemoveVoidRequests(const SharedDirectory& directory, absl::string_view group,
                        const Register& current) {
  const absl::StatusOr<std::vector<std::string>> names =
      directory.List(kManualRequestSuffix, kManualRequestLimit);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    const absl::StatusOr<std::optional<OpenRequest>> open = OpenRequestFile(
        directory, name, SharedDirectory::Lock::kExclusive, Deadline(absl::ZeroDuration()));
    if (!open.ok() || !open->has_value() || (*open)->content.group != group) continue;
    const absl::StatusOr<ChangeStep> step = DecideChange(current, (*open)->content.request);
    if (step.ok() && *step != ChangeStep::kWrite) directory.Remove(name).IgnoreError();
  }
}

absl::Status Approve(const SharedDirectory& directory, FileArbiter& arbiter,
                     const ManualRequest& asked, const Deadline& deadline) {
  if (asked.denied) {
    return absl::FailedPreconditionError(
        "the request was denied before and can not be approved any more; the engine may ask again "
        "under a new id");
  }
  const RegisterAnswer answer =
      arbiter.CompareAndSet(asked.group, asked.request, deadline.Remaining());
  if (answer.verdict == Verdict::kUnknown) return answer.cause;
  if (answer.verdict == Verdict::kDenied) return Void(answer.current);
  RemoveVoidRequests(directory, asked.group, asked.request.desired);
  return absl::OkStatus();
}

absl::Status Deny(LockedFile& file) {
  HAVEN_RETURN_IF_ERROR(file.WriteAt(ManualAnswerOffset(), kManualDeny));
  return file.Sync();
}

absl::Status NotAsked(const std::string& directory, absl::string_view group, RequestId id) {
  return absl::NotFoundError(absl::StrFormat(
      "nobody asks for request %016x of group %s in %s: it was resolved before, or the id is wrong "
      "(list the open requests)",
      id, group, directory));
}

}  // namespace

absl::StatusOr<ManualRequestList> ListManualRequests(const std::string& directory_path,
                                                     absl::Duration timeout) {
  const Deadline deadline(timeout);
  HAVEN_ASSIGN_OR_RETURN(const SharedDirectory directory, SharedDirectory::Open(directory_path));
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                         directory.List(kManualRequestSuffix, kManualRequestLimit));
  FileArbiter arbiter(directory_path);
  std::map<std::string, RegisterAnswer> registers;
  ManualRequestList list;
  for (const std::string& name : names) {
    absl::StatusOr<std::optional<OpenRequest>> open =
        OpenRequestFile(directory, name, SharedDirectory::Lock::kShared, deadline);
    if (!open.ok()) {
      if (!absl::IsNotFound(open.status())) list.problems.push_back(open.status());
      continue;
    }
    if (!open->has_value()) continue;
    ManualRequest& asked = (*open)->content;
    auto known = registers.find(asked.group);
    if (known == registers.end()) {
      RegisterAnswer answer = arbiter.Read(asked.group, deadline.Remaining());
      if (answer.verdict == Verdict::kUnknown) list.problems.push_back(answer.cause);
      known = registers.emplace(asked.group, std::move(answer)).first;
    }
    if (known->second.verdict == Verdict::kUnknown) continue;
    const absl::StatusOr<ChangeStep> step = DecideChange(known->second.current, asked.request);
    if (!step.ok()) {
      list.problems.push_back(step.status());
    } else if (*step == ChangeStep::kWrite) {
      list.requests.push_back(std::move(asked));
    }
  }
  return list;
}

absl::Status AnswerManualRequest(const std::string& directory_path, absl::string_view group,
                                 RequestId id, ManualVerdict verdict, absl::Duration timeout) {
  const Deadline deadline(timeout);
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_ASSIGN_OR_RETURN(const SharedDirectory directory, SharedDirectory::Open(directory_path));
  const std::string name = ManualRequestFileName(group, id);
  absl::StatusOr<std::optional<OpenRequest>> open =
      OpenRequestFile(directory, name, SharedDirectory::Lock::kExclusive, deadline);
  if (absl::IsNotFound(open.status())) return NotAsked(directory_path, group, id);
  if (!open.ok()) return open.status();
  if (!open->has_value()) return NotAsked(directory_path, group, id);
  OpenRequest& asked = **open;
  FileArbiter arbiter(directory_path);
  const RegisterAnswer seen = arbiter.Read(group, deadline.Remaining());
  if (seen.verdict == Verdict::kUnknown) return seen.cause;
  HAVEN_ASSIGN_OR_RETURN(const ChangeStep step, DecideChange(seen.current, asked.content.request));
  switch (step) {
    case ChangeStep::kWrite:
      break;
    case ChangeStep::kDenied:
      return Void(seen.current);
    case ChangeStep::kGranted:
      if (verdict == ManualVerdict::kApprove) return absl::OkStatus();
      return absl::FailedPreconditionError("the request has been approved before, and carried out");
  }
  if (verdict == ManualVerdict::kDeny) return Deny(asked.file);
  HAVEN_RETURN_IF_ERROR(Approve(directory, arbiter, asked.content, deadline));
  return directory.Remove(name);
}

}  // namespace haven
