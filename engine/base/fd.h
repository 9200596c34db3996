// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_FD_H_
#define HAVEN_ENGINE_BASE_FD_H_

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace haven {

// Owns a file descriptor and closes it. Movable, not copyable. Not thread-safe.
class UniqueFd {
 public:
  UniqueFd() = default;
  // Takes ownership; a negative value (a failed open) is held as "none".
  explicit UniqueFd(int fd) : fd_(fd < 0 ? kNone : fd) {}
  ~UniqueFd() { reset(); }

  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }

  // The descriptor, still owned here, or -1.
  int get() const { return fd_; }
  bool valid() const { return fd_ != kNone; }
  explicit operator bool() const { return valid(); }

  // Gives up ownership without closing.
  [[nodiscard]] int release() { return std::exchange(fd_, kNone); }

  // Closes what is held and takes ownership of `fd`. errno is preserved. Linux frees the descriptor
  // even when close(2) reports an error, so it is never called twice; whoever needs the data on
  // disk calls fsync(2) first.
  void reset(int fd = kNone) {
    const int old = std::exchange(fd_, fd < 0 ? kNone : fd);
    if (old == kNone) return;
    const int saved_errno = errno;
    close(old);
    errno = saved_errno;
  }

 private:
  static constexpr int kNone = -1;
  int fd_ = kNone;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_FD_H_
