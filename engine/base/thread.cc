// SPDX-License-Identifier: Apache-2.0
#include "engine/base/thread.h"

#include <signal.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

namespace {

constexpr size_t kNameBytesMax = 15;

struct Beginning {
  std::array<char, kNameBytesMax + 1> name{};
  absl::AnyInvocable<void()> body;
};

void* Run(void* argument) {
  const std::unique_ptr<Beginning> beginning(static_cast<Beginning*>(argument));
  // By itself: whoever started it would find no thread to name where the body is short.
  HAVEN_CHECK_EQ(pthread_setname_np(pthread_self(), beginning->name.data()), 0);
  beginning->body();
  return nullptr;
}

}  // namespace

absl::StatusOr<Thread> Thread::Start(const char* name, absl::AnyInvocable<void()> body) {
  auto beginning = std::make_unique<Beginning>();
  HAVEN_CHECK_LE(std::strlen(name), kNameBytesMax) << name;
  std::memcpy(beginning->name.data(), name, std::strlen(name));
  beginning->body = std::move(body);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  HAVEN_CHECK_EQ(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
  Thread thread;
  const int error = pthread_create(&thread.thread_, nullptr, Run, beginning.get());
  HAVEN_CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the thread ", name, " can not be started: ", std::strerror(error)));
  }
  beginning.release();
  thread.running_ = true;
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
