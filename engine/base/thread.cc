// SPDX-License-Identifier: Apache-2.0
#include "engine/base/thread.h"

#include <signal.h>

#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

namespace {

void* RunBody(void* argument) {
  const std::unique_ptr<absl::AnyInvocable<void()>> body(
      static_cast<absl::AnyInvocable<void()>*>(argument));
  (*body)();
  return nullptr;
}

}  // namespace

absl::StatusOr<Thread> Thread::Start(const char* name, absl::AnyInvocable<void()> body) {
  auto owned = std::make_unique<absl::AnyInvocable<void()>>(std::move(body));
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  HAVEN_CHECK_EQ(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
  Thread thread;
  const int error = pthread_create(&thread.thread_, nullptr, RunBody, owned.get());
  HAVEN_CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the thread ", name, " can not be started: ", std::strerror(error)));
  }
  owned.release();
  thread.running_ = true;
  HAVEN_CHECK_EQ(pthread_setname_np(thread.thread_, name), 0) << name;
  return thread;
}

Thread::Thread(Thread&& other) noexcept
    : running_(std::exchange(other.running_, false)), thread_(other.thread_) {}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this == &other) return *this;
  Join();
  running_ = std::exchange(other.running_, false);
  thread_ = other.thread_;
  return *this;
}

void Thread::Join() {
  if (std::exchange(running_, false)) HAVEN_CHECK_EQ(pthread_join(thread_, nullptr), 0);
}

void Thread::Detach() {
  if (std::exchange(running_, false)) HAVEN_CHECK_EQ(pthread_detach(thread_), 0);
}

}  // namespace haven
