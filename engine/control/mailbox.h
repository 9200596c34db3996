// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_MAILBOX_H_
#define HAVEN_ENGINE_CONTROL_MAILBOX_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/control/wake_fd.h"

namespace haven {

// Commands from any thread to the one that owns something, each with its reply.
template <typename Command, typename Reply>
class Mailbox {
 public:
  // Commands that may wait.
  static constexpr size_t kMaxWaiting = 64;

  // Errors of WakeFd::Create.
  static absl::StatusOr<std::unique_ptr<Mailbox>> Create() {
    HAVEN_ASSIGN_OR_RETURN(WakeFd wake, WakeFd::Create());
    return std::unique_ptr<Mailbox>(new Mailbox(std::move(wake)));
  }

  // Waits for the reply. Any thread but the owner's. DeadlineExceeded: the owner did not turn to it
  // in time, and will not carry it out; ResourceExhausted: kMaxWaiting is reached; Unavailable:
  // closed.
  absl::StatusOr<Reply> Call(Command command, absl::Duration timeout) {
    const auto letter = std::make_shared<Letter>();
    letter->command.emplace(std::move(command));
    std::unique_lock<std::mutex> lock(mutex_);
    if (closed_) return Closed();
    if (waiting_.size() == kMaxWaiting) {
      return absl::ResourceExhaustedError("too many commands wait for this process already");
    }
    waiting_.push_back(letter);
    wake_.Signal();
    raised_ = true;
    const auto done = [&] { return letter->reply.has_value() || closed_; };
    answered_.wait_for(lock, absl::ToChronoNanoseconds(timeout), done);
    // Begun: the reply is a matter of moments.
    answered_.wait(lock, [&] { return done() || !letter->begun; });
    if (letter->reply.has_value()) return *std::move(letter->reply);
    if (closed_) return Closed();
    std::erase(waiting_, letter);
    return absl::DeadlineExceededError(
        "the process does not turn to its commands: it hangs, or is overloaded");
  }

  // Owner: replies to what waits, one after the other, by handler(const Command&) -> Reply. At most
  // kMaxWaiting in one call.
  template <typename Handler>
  void Serve(Handler&& handler) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (size_t served = 0; served < kMaxWaiting && !waiting_.empty(); ++served) {
      const std::shared_ptr<Letter> letter = std::move(waiting_.front());
      waiting_.pop_front();
      letter->begun = true;
      lock.unlock();
      Reply reply = handler(std::as_const(*letter->command));
      lock.lock();
      letter->reply.emplace(std::move(reply));
      answered_.notify_all();
    }
    if (waiting_.empty() && std::exchange(raised_, false)) wake_.Clear();
  }

  // Owner: from here on nothing is carried out; who waits gets Unavailable.
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    waiting_.clear();
    answered_.notify_all();
  }

  // Readable when Serve() has something to do.
  int fd() const { return wake_.fd(); }

 private:
  struct Letter {
    std::optional<Command> command;
    std::optional<Reply> reply;
    bool begun = false;
  };

  explicit Mailbox(WakeFd wake) : wake_(std::move(wake)) {}

  static absl::Status Closed() {
    return absl::UnavailableError("the process has ended its work and takes no commands");
  }

  const WakeFd wake_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::deque<std::shared_ptr<Letter>> waiting_;
  bool raised_ = false;  // Signalled, and not cleared.
  bool closed_ = false;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_MAILBOX_H_
