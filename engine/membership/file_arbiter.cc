// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/file_arbiter.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_register_file.h"
#include "engine/membership/arbiter_rules.h"
#include "engine/membership/arbiter_storage.h"

namespace haven {
namespace {

struct OpenRegister {
  SharedDirectory directory;
  LockedFile file;
  RegisterFileContent content;
};

absl::StatusOr<OpenRegister> OpenAndDecode(const std::string& path, absl::string_view group,
                                           SharedDirectory::Lock lock, const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_ASSIGN_OR_RETURN(SharedDirectory directory, SharedDirectory::Open(path));
  const std::string name = absl::StrCat(group, ".register");
  HAVEN_ASSIGN_OR_RETURN(
      LockedFile file,
      directory.OpenLocked(name, lock, SharedDirectory::IfMissing::kCreate, deadline));
  HAVEN_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAll(kRegisterFileBytes));
  absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(group, bytes);
  if (!content.ok()) {
    return absl::Status(
        content.status().code(),
        absl::StrCat(directory.PathOf(name), " is damaged and will not be overwritten: ",
                     content.status().message(), "; see 'A damaged register' in docs/arbiter.md"));
  }
  return OpenRegister{std::move(directory), std::move(file), *std::move(content)};
}

// A writer that was killed before its fsync may have left the value in a cache only. Nobody may
// rely on it before it is durable.
absl::Status MakeDurable(OpenRegister& open) {
  HAVEN_RETURN_IF_ERROR(open.file.Sync());
  return open.content.value.has_value() ? open.directory.Sync() : absl::OkStatus();
}

absl::Status Write(OpenRegister& open, absl::string_view group, const Register& value) {
  if (!open.content.value.has_value()) {
    HAVEN_RETURN_IF_ERROR(open.file.WriteAt(0, EncodeRegisterFile(group, value)));
    HAVEN_RETURN_IF_ERROR(open.file.Sync());
    return open.directory.Sync();
  }
  const int slot = 1 - open.content.current_slot;
  HAVEN_RETURN_IF_ERROR(open.file.WriteAt(RegisterSlotOffset(slot), EncodeRegisterSlot(value)));
  HAVEN_RETURN_IF_ERROR(open.file.Sync());
  HAVEN_RETURN_IF_ERROR(open.file.WriteAt(RegisterCurrentDigitOffset(), absl::StrCat(slot)));
  return open.file.Sync();
}

absl::StatusOr<RegisterAnswer> Change(const std::string& path, absl::string_view group,
                                      const RegisterRequest& request, const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateRequest(request));
  HAVEN_ASSIGN_OR_RETURN(OpenRegister open,
                         OpenAndDecode(path, group, SharedDirectory::Lock::kExclusive, deadline));
  HAVEN_ASSIGN_OR_RETURN(const ChangeStep step, DecideChange(open.content.value, request));
  if (step != ChangeStep::kWrite) {
    HAVEN_RETURN_IF_ERROR(MakeDurable(open));
    return step == ChangeStep::kGranted ? GrantedAnswer(open.content.value)
                                        : DeniedAnswer(open.content.value);
  }
  // The expected value's own writer may have been killed before its fsync: the slot that is to
  // stay valid until the flip must be on disk before anything else is.
  HAVEN_RETURN_IF_ERROR(MakeDurable(open));
  if (deadline.Passed()) {
    return absl::DeadlineExceededError(
        absl::StrCat("the storage took longer than ", absl::FormatDuration(deadline.timeout()),
                     " before anything was written; nothing was changed"));
  }
  HAVEN_RETURN_IF_ERROR(Write(open, group, request.desired));
  return GrantedAnswer(request.desired);
}

absl::StatusOr<RegisterAnswer> ReadOnce(const std::string& path, absl::string_view group,
                                        const Deadline& deadline) {
  HAVEN_ASSIGN_OR_RETURN(OpenRegister open,
                         OpenAndDecode(path, group, SharedDirectory::Lock::kShared, deadline));
  HAVEN_RETURN_IF_ERROR(MakeDurable(open));
  return GrantedAnswer(open.content.value);
}

}  // namespace

FileArbiter::FileArbiter(std::string directory) : directory_(std::move(directory)) {}

RegisterAnswer FileArbiter::Read(absl::string_view group, absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group, ReadOnce(directory_, group, Deadline(timeout)));
}

RegisterAnswer FileArbiter::CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                          absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group, Change(directory_, group, request, Deadline(timeout)));
}

std::string FileArbiter::Describe() const { return absl::StrCat("file:", directory_); }

}  // namespace haven
