// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_door.h"

#include <poll.h>

#include <bit>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/control/message_io.h"

namespace haven {

namespace {

// Between attempts to accept while the process has no descriptor left for it.
constexpr int kAcceptRetryMs = 100;

}  // namespace

absl::StatusOr<std::unique_ptr<SessionDoor>> SessionDoor::Open(Transport& transport,
                                                               absl::string_view address,
                                                               absl::Duration patience) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Listener> listener, transport.Listen(address));
  HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
  HAVEN_ASSIGN_OR_RETURN(std::shared_ptr<Cancel> stop, Cancel::Create());
  std::unique_ptr<SessionDoor> door(
      new SessionDoor(transport, std::move(listener), patience, std::move(wake), std::move(stop)));
  for (unsigned i = 0; i < kThreads; ++i) {
    HAVEN_ASSIGN_OR_RETURN(Thread thread,
                           Thread::Start("haven-door", [self = door.get()] { self->Serve(); }));
    door->threads_.push_back(std::move(thread));
  }
  return door;
}

SessionDoor::SessionDoor(Transport& transport, std::unique_ptr<Listener> listener,
                         absl::Duration patience, WakeFd wake, std::shared_ptr<Cancel> stop)
    : transport_(transport),
      listener_(std::move(listener)),
      patience_(patience),
      wake_(std::move(wake)),
      stop_(std::move(stop)) {}

SessionDoor::~SessionDoor() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_->Set();
  }
  taken_.notify_all();
  threads_.clear();
}

std::optional<Arrival> SessionDoor::Next() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.empty()) return std::nullopt;
  Arrival arrival = std::move(waiting_.front());
  waiting_.pop_front();
  if (waiting_.empty()) wake_.Clear();
  taken_.notify_one();
  return arrival;
}

void SessionDoor::Serve() {
  while (WaitForConnection()) {
    absl::StatusOr<std::optional<int>> connection = Accept();
    if (!connection.ok()) {
      TurnAway(connection.status());
      pollfd stop = {.fd = stop_->fd(), .events = POLLIN, .revents = 0};
      poll(&stop, 1, kAcceptRetryMs);
      continue;
    }
    if (!connection->has_value()) continue;
    absl::StatusOr<Arrival> arrival = Hear(**connection);
    if (arrival.ok()) {
      Hand(*std::move(arrival));
    } else if (!stop_->is_set()) {
      TurnAway(arrival.status());
    }
  }
}

// False: the door is being closed.
bool SessionDoor::WaitForConnection() {
  pollfd watched[2] = {{.fd = listener_->fd(), .events = POLLIN, .revents = 0},
                       {.fd = stop_->fd(), .events = POLLIN, .revents = 0}};
  poll(watched, 2, -1);
  return !stop_->is_set();
}

// Several threads are woken by one connection; all but one find nothing.
absl::StatusOr<std::optional<int>> SessionDoor::Accept() {
  const std::lock_guard<std::mutex> lock(accept_mutex_);
  return listener_->Accept();
}

absl::StatusOr<Arrival> SessionDoor::Hear(int connection) {
  const TimeLimit limit(patience_);
  Arrival arrival;
  HAVEN_ASSIGN_OR_RETURN(arrival.channel, transport_.Adopt(connection, limit.Remaining()));
  HAVEN_ASSIGN_OR_RETURN(arrival.first, HearFirst(*arrival.channel, limit, *stop_));
  if (std::holds_alternative<Hello>(arrival.first)) return arrival;
  if (std::holds_alternative<LinkRequest>(arrival.first)) return arrival;
  if (std::holds_alternative<LinkReady>(arrival.first)) return arrival;
  return absl::DataLossError(absl::StrCat(arrival.channel->Describe(), " begins with ",
                                          ControlMessageName(arrival.first),
                                          " instead of Hello, LinkRequest or LinkReady"));
}

void SessionDoor::Hand(Arrival arrival) {
  std::unique_lock<std::mutex> lock(mutex_);
  taken_.wait(lock, [this] { return stop_->is_set() || waiting_.size() < kMaxWaiting; });
  if (stop_->is_set()) return;
  waiting_.push_back(std::move(arrival));
  wake_.Signal();
}

// Logs the 1st, 2nd, 4th, 8th ... so that a flood does not fill the log.
void SessionDoor::TurnAway(const absl::Status& cause) {
  const uint64_t count = turned_away_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (!std::has_single_bit(count)) return;
  HAVEN_LOG(kWarning, "control") << address() << " turns a connection away (" << count
                                 << " so far): " << cause;
}

}  // namespace haven
