// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_STATUS_PUBLISHER_H_
#define HAVEN_ENGINE_CONTROL_STATUS_PUBLISHER_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/thread.h"
#include "engine/control/event_log.h"
#include "engine/control/status.h"

namespace haven {

struct StatusPaths {
  std::string status;                            // Empty: no file is written.
  std::string events;                            // Empty: events go to the process' log only.
  uint64_t max_event_bytes = uint64_t{4} << 20;  // See EventLog.
};

// Writes status and events in a thread of its own, so that a slow disk delays neither. What can not
// be written is said once in the process' log, until it works again.
class StatusPublisher {
 public:
  // Events that may wait to be written. Beyond that new ones are lost, and the next one says how
  // many.
  static constexpr size_t kMaxEvents = 256;

  // `warning`, which may be null, gives each status its own (Transport::Warning()); it is called in
  // the thread, and a new one is logged as well. Errors of Thread::Start.
  static absl::StatusOr<std::unique_ptr<StatusPublisher>> Start(
      StatusPaths paths, std::function<std::string()> warning = nullptr);
  // Writes what waits first.
  ~StatusPublisher();
  StatusPublisher(const StatusPublisher&) = delete;
  StatusPublisher& operator=(const StatusPublisher&) = delete;

  // Both never block for the disk. A status that is not written yet is replaced by the newer one.
  void Publish(StatusSnapshot snapshot);
  void Record(StatusEvent event);

 private:
  StatusPublisher(StatusPaths paths, std::function<std::string()> warning);

  void Work();
  void Write(std::deque<StatusEvent> events, std::optional<StatusSnapshot> snapshot);
  void Warn(StatusSnapshot& snapshot);
  void Complain(const char* what, const absl::Status& status, bool* complained);

  const StatusPaths paths_;
  const EventLog log_;
  const std::function<std::string()> warning_;
  // Of the thread.
  std::string last_warning_;
  bool complained_of_status_ = false;
  bool complained_of_events_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<StatusEvent> events_;
  std::optional<StatusSnapshot> snapshot_;
  uint64_t lost_events_ = 0;
  bool stop_ = false;
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_PUBLISHER_H_
