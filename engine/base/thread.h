// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_THREAD_H_
#define HAVEN_ENGINE_BASE_THREAD_H_

#include <pthread.h>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

namespace haven {

// A thread with a name, all signals blocked (they belong to the main thread), whose failed start is
// a Status and no exception. Movable; joined by the destructor, so what it runs must come to an
// end.
class Thread {
 public:
  // `name` is shown by ps and gdb, at most 15 characters (checked). ResourceExhausted: the limit of
  // threads or memory is reached.
  static absl::StatusOr<Thread> Start(const char* name, absl::AnyInvocable<void()> body);

  Thread() = default;
  ~Thread() { Join(); }
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;

  // Waits for the end of `body`. Idempotent.
  void Join();

  // Leaves it to itself: what it uses has to live as long as it does.
  void Detach();

 private:
  bool running_ = false;
  pthread_t thread_{};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_THREAD_H_
