// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/log_dirty.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/primary/dirty_words.h"

namespace haven {

LogDirty::LogDirty(XenDomainControl& control, std::string guest, uint64_t frame_count,
                   uint64_t canary)
    : control_(control), guest_(std::move(guest)), frame_count_(frame_count), canary_(canary) {
  HAVEN_CHECK_LT(canary_, frame_count_);
}

absl::Status LogDirty::Enable(bool leftover) {
  absl::Status status = control_.LogDirtyOn();
  if (absl::IsAlreadyExists(status) && leftover) {
    HAVEN_RETURN_IF_ERROR(control_.LogDirtyOff());
    status = control_.LogDirtyOn();
  }
  if (absl::IsAlreadyExists(status)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "guest ", guest_,
        ": somebody else logs its dirty pages, or it has a device passed through: end xl save, "
        "migrate or remus of it, or the program that records its screen, and try again"));
  }
  if (absl::IsUnimplemented(status)) {
    return absl::FailedPreconditionError(
        absl::StrCat("guest ", guest_,
                     ": this hypervisor can not log its dirty pages: it needs nested paging "
                     "(hap=1, and a processor with EPT or NPT)"));
  }
  HAVEN_RETURN_IF_ERROR(status);
  enabled_ = true;
  status = control_.LogDirtyPrepare(frame_count_);
  if (status.ok()) status = Start();
  if (!status.ok()) Disable();
  return status;
}

// An empty log with the canary in it. The canary is tried once: it must be what is in there.
absl::Status LogDirty::Start() {
  HAVEN_RETURN_IF_ERROR(control_.MarkDirty(canary_));
  HAVEN_ASSIGN_OR_RETURN(const std::span<const uint64_t> words, control_.LogDirtyClean(false));
  if (!Marked(words)) {
    return absl::InternalError(
        absl::StrCat("guest ", guest_, ": frame ", canary_,
                     " was marked as dirty and is not in the log: the log can not be trusted"));
  }
  return control_.MarkDirty(canary_);
}

absl::Status LogDirty::CheckEnabled() const {
  if (enabled_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("guest ", guest_, ": its dirty pages are not logged"));
}

// The hypervisor counts in steps of one, also down, and starts from 0 after a fetch; what happens
// while a long log is being cleared it may count wrongly, even to below 0.
absl::StatusOr<uint64_t> LogDirty::Count() {
  HAVEN_RETURN_IF_ERROR(CheckEnabled());
  HAVEN_ASSIGN_OR_RETURN(const uint64_t frames, control_.LogDirtyCount());
  return std::min(frames, frame_count_);
}

absl::Status LogDirty::Fetch(std::span<uint64_t> bitmap, bool stopped, After after) {
  HAVEN_RETURN_IF_ERROR(CheckEnabled());
  if (!lost_.empty()) return Restart(lost_);
  const bool keep = after == After::kKeep;
  const absl::StatusOr<std::span<const uint64_t>> words =
      keep ? control_.LogDirtyPeek(stopped) : control_.LogDirtyClean(stopped);
  if (absl::IsDataLoss(words.status())) return Restart("the hypervisor had no memory for the log");
  HAVEN_RETURN_IF_ERROR(words.status());
  MergeDirtyLog(*words, bitmap);
  if (!Marked(*words)) {
    return Restart(
        "somebody else has used it (xl save, migrate or remus of a protected guest does)");
  }
  return keep ? absl::OkStatus() : control_.MarkDirty(canary_);
}

// Off and on again, also if it is on: a log that had no memory once stays useless until then. If
// that fails half-way the next log may look whole: the loss is remembered until it is told.
absl::Status LogDirty::Restart(std::string cause) {
  if (lost_.empty()) ++losses_;
  lost_ = std::move(cause);
  HAVEN_RETURN_IF_ERROR(control_.LogDirtyOff());
  const absl::Status on = control_.LogDirtyOn();
  if (!on.ok() && !absl::IsAlreadyExists(on)) return on;
  HAVEN_RETURN_IF_ERROR(Start());
  return absl::AbortedError(absl::StrCat(
      "guest ", guest_, ": its log of dirty pages has lost some: ", std::exchange(lost_, ""),
      "; every page is sent again"));
}

void LogDirty::Disable() {
  if (!std::exchange(enabled_, false)) return;
  lost_.clear();
  const absl::Status off = control_.LogDirtyOff();
  if (!off.ok() && !absl::IsNotFound(off)) {
    HAVEN_LOG(kWarning, "xen") << "guest=" << guest_ << " " << std::string(off.message());
  }
}

bool LogDirty::Marked(std::span<const uint64_t> words) const {
  return ((words[canary_ / 64] >> (canary_ % 64)) & 1) != 0;
}

}  // namespace haven
