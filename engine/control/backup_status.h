// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_BACKUP_STATUS_H_
#define HAVEN_ENGINE_CONTROL_BACKUP_STATUS_H_

#include <cstdint>

#include "engine/control/backup_driver.h"
#include "engine/control/session_door.h"
#include "engine/control/status_tracker.h"
#include "engine/primary/primary.h"

namespace haven {

// A session's status and events. Used from its thread.
class BackupStatus final : public BackupObserver {
 public:
  // `protected_age_ns`: a replica whose last commit is older is not called protected. What is
  // passed in here and below outlives the object.
  BackupStatus(StatusIdentity identity, int64_t protected_age_ns, StatusPublisher& publisher,
               const Clock& clock);
  // Before the driver's Start().
  void Attach(const BackupDriver& driver, const SessionDoor& door,
              const ThreadArbiterPort& arbiter);

  void OnReport(const char* cause) override;

  // After each turn of the loop.
  void Update();
  int64_t NextWakeNs() const { return tracker_.NextWakeNs(); }

  StatusSnapshot Take() const;

 private:
  ProtectionState State() const;
  StatusTracker::Moment Now() const;
  void LookAtCommits();

  const Clock& clock_;
  StatusTracker tracker_;
  const int64_t protected_age_ns_;
  const BackupDriver* driver_ = nullptr;
  const SessionDoor* door_ = nullptr;
  const ThreadArbiterPort* arbiter_ = nullptr;

  SessionId seen_session_ = kNoSession;
  LinkNumber seen_link_ = kNoLink;
  Epoch seen_committed_ = kNoEpoch;
  int64_t committed_ns_ = 0;  // When the newest commit was seen; 0: never.
  uint64_t links_ = 0;
  uint64_t epochs_ = 0;
  uint64_t published_pages_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_BACKUP_STATUS_H_
