// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_publisher.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/status_file.h"
#include "engine/control/status_json.h"

namespace haven {

absl::StatusOr<std::unique_ptr<StatusPublisher>> StatusPublisher::Start(
    StatusPaths paths, std::function<std::string()> warning) {
  std::unique_ptr<StatusPublisher> publisher(
      new StatusPublisher(std::move(paths), std::move(warning)));
  HAVEN_ASSIGN_OR_RETURN(publisher->thread_,
                         Thread::Start("haven-status", [self = publisher.get()] { self->Work(); }));
  return publisher;
}

StatusPublisher::StatusPublisher(StatusPaths paths, std::function<std::string()> warning)
    : paths_(std::move(paths)),
      log_(paths_.events, paths_.max_event_bytes),
      warning_(std::move(warning)) {}

StatusPublisher::~StatusPublisher() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.Join();
}

void StatusPublisher::Publish(StatusSnapshot snapshot) {
  const std::lock_guard<std::mutex> lock(mutex_);
  snapshot_ = std::move(snapshot);
  changed_.notify_all();
}

void StatusPublisher::Record(StatusEvent event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (events_.size() == kMaxEvents) {
    ++lost_events_;
    return;
  }
  event.suppressed += std::exchange(lost_events_, 0);
  events_.push_back(std::move(event));
  changed_.notify_all();
}

void StatusPublisher::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || snapshot_.has_value() || !events_.empty(); });
    if (!snapshot_.has_value() && events_.empty()) return;
    std::deque<StatusEvent> events = std::exchange(events_, {});
    std::optional<StatusSnapshot> snapshot = std::exchange(snapshot_, std::nullopt);
    lock.unlock();
    Write(std::move(events), std::move(snapshot));
    lock.lock();
  }
}

void StatusPublisher::Warn(StatusSnapshot& snapshot) {
  if (warning_ == nullptr) return;
  snapshot.warning = warning_();
  if (std::exchange(last_warning_, snapshot.warning) == snapshot.warning) return;
  if (snapshot.warning.empty()) return;
  HAVEN_LOG(kWarning, snapshot.role) << "group=" << snapshot.group << " " << snapshot.warning;
}

void StatusPublisher::Write(std::deque<StatusEvent> events,
                            std::optional<StatusSnapshot> snapshot) {
  for (const StatusEvent& event : events) {
    HAVEN_LOG(kInfo, event.role) << "group=" << event.group << " term=" << event.term
                                 << " epoch=" << event.epoch << " " << event.from
                                 << (event.from == event.to ? "" : absl::StrCat(" -> ", event.to))
                                 << ": " << event.cause
                                 << (event.detail.empty() ? ""
                                                          : absl::StrCat(" (", event.detail, ")"));
    if (paths_.events.empty()) continue;
    Complain("an event is not recorded", log_.Append(event), &complained_of_events_);
  }
  if (!snapshot.has_value()) return;
  Warn(*snapshot);
  if (paths_.status.empty()) return;
  Complain("the status is not written",
           WriteStatusFile(paths_.status, absl::StrCat(StatusToJson(*snapshot), "\n")),
           &complained_of_status_);
}

void StatusPublisher::Complain(const char* what, const absl::Status& status, bool* complained) {
  const bool failed = !status.ok();
  if (failed && !*complained) HAVEN_LOG(kError, "status") << what << ": " << status;
  *complained = failed;
}

}  // namespace haven
