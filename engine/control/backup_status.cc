// SPDX-License-Identifier: Apache-2.0
#include "engine/control/backup_status.h"

#include <utility>

#include "engine/base/check.h"
#include "engine/control/status_words.h"

namespace haven {

BackupStatus::BackupStatus(StatusIdentity identity, int64_t protected_age_ns,
                           StatusPublisher& publisher, const Clock& clock)
    : clock_(clock),
      tracker_(std::move(identity), publisher, clock),
      protected_age_ns_(protected_age_ns) {}

void BackupStatus::Attach(const BackupDriver& driver, const SessionDoor& door,
                          const ThreadArbiterPort& arbiter) {
  driver_ = &driver;
  door_ = &door;
  arbiter_ = &arbiter;
}

ProtectionState BackupStatus::State() const {
  const bool fresh = committed_ns_ != 0 && clock_.NowNs() < committed_ns_ + protected_age_ns_;
  return BackupProtection(driver_->backup(), fresh);
}

StatusTracker::Moment BackupStatus::Now() const {
  const Backup& backup = driver_->backup();
  const std::optional<Register>& known = backup.registers().known();
  return {.state = ProtectionStateName(State()),
          .term = known.has_value() ? known->term : 0,
          .session = backup.session(),
          .link = backup.link(),
          .epoch = backup.committed()};
}

void BackupStatus::OnReport(const char* cause) {
  HAVEN_CHECK(driver_ != nullptr);
  LookAtCommits();
  if (cause != nullptr) tracker_.Happened(Now(), cause, driver_->last_error());
}

void BackupStatus::LookAtCommits() {
  const Backup& backup = driver_->backup();
  if (backup.session() != seen_session_) {
    seen_session_ = backup.session();
    seen_link_ = kNoLink;
    seen_committed_ = backup.committed();
  }
  if (backup.link_up() && backup.link() != seen_link_) {
    seen_link_ = backup.link();
    ++links_;
  }
  if (backup.committed() != seen_committed_) {
    epochs_ += backup.committed() - seen_committed_;
    seen_committed_ = backup.committed();
    committed_ns_ = clock_.NowNs();
  }
}

void BackupStatus::Update() {
  LookAtCommits();
  const StatusTracker::Moment now = Now();
  if (tracker_.Differs(now.state)) {
    tracker_.Happened(now, ExplainBackup(driver_->backup()).reason, driver_->last_error());
  }
  if (!tracker_.PublishDue(driver_->applied_pages() != published_pages_)) return;
  published_pages_ = driver_->applied_pages();
  tracker_.Publish(Take());
}

StatusSnapshot BackupStatus::Take() const {
  const Backup& backup = driver_->backup();
  StatusSnapshot snapshot = tracker_.Begin();
  snapshot.state = ProtectionStateName(State());
  Explanation explanation = ExplainBackup(backup);
  snapshot.reason = std::move(explanation.reason);
  snapshot.remedy = std::move(explanation.remedy);
  snapshot.activity = Backup::StateName(backup.state());
  snapshot.last_error = std::string(driver_->last_error().message());
  snapshot.session = backup.session();
  snapshot.link = backup.link();
  snapshot.link_state = backup.link_up() ? "up" : "down";
  snapshot.registered = DescribeRegister(backup.registers());
  snapshot.arbiter = tracker_.DescribeArbiter(*arbiter_, backup.registers());
  snapshot.epoch.committed = backup.committed();
  snapshot.epoch.applied = backup.applied();
  if (committed_ns_ != 0) snapshot.epoch.age_ns = clock_.NowNs() - committed_ns_;
  snapshot.counters.epochs = epochs_;
  snapshot.counters.links = links_;
  snapshot.counters.applied_pages = driver_->applied_pages();
  snapshot.counters.received_bytes = driver_->received_bytes();
  snapshot.counters.turned_away = door_->turned_away();
  return snapshot;
}

}  // namespace haven
