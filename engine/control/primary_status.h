// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_PRIMARY_STATUS_H_
#define HAVEN_ENGINE_CONTROL_PRIMARY_STATUS_H_

#include <cstdint>

#include "engine/base/histogram.h"
#include "engine/control/primary_driver.h"
#include "engine/control/status_tracker.h"
#include "engine/primary/output_buffer.h"

namespace haven {

// An engine's status and events. Used from its epoch thread.
class PrimaryStatus final : public PrimaryObserver {
 public:
  // What is passed in here and below outlives the object, or is attached anew.
  PrimaryStatus(StatusIdentity identity, int64_t interval_ns, StatusPublisher& publisher,
                const Clock& clock);
  // Before the driver's Start(): what there is to report about.
  void Attach(const PrimaryDriver& driver, OutputBuffer& output, const ThreadArbiterPort& arbiter);

  void OnReport(const char* cause) override;
  void SetInterval(int64_t interval_ns) { interval_ns_ = interval_ns; }

  // After each turn of the loop: events that nobody reported, and the status when it is due.
  void Update();
  int64_t NextWakeNs() const;

  // What the loop knows by itself: asks neither guests nor the output buffer.
  StatusSnapshot Take();

 private:
  StatusTracker::Moment Now() const;
  SyncStatus DescribeSync();
  bool InPause() const;

  const Clock& clock_;
  StatusTracker tracker_;
  int64_t interval_ns_;
  const PrimaryDriver* driver_ = nullptr;
  OutputBuffer* output_ = nullptr;
  OutputStats output_stats_;  // As of the last publication.
  const ThreadArbiterPort* arbiter_ = nullptr;

  Histogram pauses_;
  uint64_t resumes_ = 0;  // Pauses that the driver had counted then.
  uint64_t published_numbers_ = 0;
  // Since when which session is being copied, for the rate.
  SessionId sync_session_ = kNoSession;
  int64_t sync_since_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_PRIMARY_STATUS_H_
