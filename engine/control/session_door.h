// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_SESSION_DOOR_H_
#define HAVEN_ENGINE_CONTROL_SESSION_DOOR_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/thread.h"
#include "engine/control/cancel.h"
#include "engine/control/wake_fd.h"
#include "engine/replica/control_message.h"
#include "transport/endpoint.h"

namespace haven {

// A connection whose peer is authenticated and has said what it wants.
struct Arrival {
  std::unique_ptr<ControlChannel> channel;
  ControlMessage first;  // A Hello, a LinkRequest or a LinkReady.
};

// Receives connections at one address and hears what each wants, away from the thread that serves a
// session. Whoever connects and says nothing, or nonsense, is turned away after a deadline and
// keeps one of a fixed number of threads for that long, no more: what comes meanwhile waits in the
// kernel.
class SessionDoor {
 public:
  static constexpr unsigned kThreads = 4;
  // Arrivals that may wait to be taken; further ones wait in their threads.
  static constexpr size_t kMaxWaiting = 4;

  // `transport` outlives the object. `patience`: from the connection to its first message. Errors
  // of Transport::Listen, Thread::Start and WakeFd::Create.
  static absl::StatusOr<std::unique_ptr<SessionDoor>> Open(Transport& transport,
                                                           absl::string_view address,
                                                           absl::Duration patience);
  // Waits for connections that are being heard, at most `patience`.
  ~SessionDoor();
  SessionDoor(const SessionDoor&) = delete;
  SessionDoor& operator=(const SessionDoor&) = delete;

  // The next one, if there is one. Never blocks. For one thread.
  std::optional<Arrival> Next();
  // Readable when Next() has one.
  int fd() const { return wake_.fd(); }
  std::string address() const { return listener_->address(); }

  // Connections turned away so far. Thread-safe.
  uint64_t turned_away() const { return turned_away_.load(std::memory_order_relaxed); }

 private:
  SessionDoor(Transport& transport, std::unique_ptr<Listener> listener, absl::Duration patience,
              WakeFd wake, std::shared_ptr<Cancel> stop);

  void Serve();
  bool WaitForConnection();
  absl::StatusOr<std::optional<int>> Accept();
  absl::StatusOr<Arrival> Hear(int connection);
  void Hand(Arrival arrival);
  void TurnAway(const absl::Status& cause);

  Transport& transport_;
  const std::unique_ptr<Listener> listener_;
  const absl::Duration patience_;
  const WakeFd wake_;
  const std::shared_ptr<Cancel> stop_;
  std::atomic<uint64_t> turned_away_{0};

  std::mutex accept_mutex_;  // The listener's.
  std::mutex mutex_;
  std::condition_variable taken_;
  std::deque<Arrival> waiting_;
  std::vector<Thread> threads_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_DOOR_H_
