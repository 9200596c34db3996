// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/recorded_domain.h"

#include "engine/base/status_macros.h"

namespace haven {

absl::Status RecordedPhase::Save(GroupPhase phase) {
  GroupRecord record = record_;
  record.phase = phase;
  HAVEN_RETURN_IF_ERROR(directory_.Save(record));
  record_ = std::move(record);
  return absl::OkStatus();
}

absl::Status RecordedPhase::Protecting() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return record_.phase == GroupPhase::kNew ? Save(GroupPhase::kProtecting) : absl::OkStatus();
}

absl::StatusOr<bool> RecordedPhase::Ending() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (record_.phase != GroupPhase::kProtecting) return false;
  HAVEN_RETURN_IF_ERROR(Save(GroupPhase::kEnding));
  return true;
}

absl::Status RecordedPhase::NotEnding() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return record_.phase == GroupPhase::kEnding ? Save(GroupPhase::kProtecting) : absl::OkStatus();
}

absl::Status RecordedDomain::EnableLogDirty() {
  HAVEN_RETURN_IF_ERROR(phase_.Protecting());
  return inner_.EnableLogDirty();
}

}  // namespace haven
