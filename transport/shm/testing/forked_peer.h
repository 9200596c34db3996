// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_TESTING_FORKED_PEER_H_
#define HAVEN_TRANSPORT_SHM_TESTING_FORKED_PEER_H_

#include <sys/types.h>

#include <functional>

namespace haven {

// A child process that runs a function, for tests with two real processes. Fork while the test has
// no other thread and before it makes anything that the child must not inherit.
class ForkedPeer {
 public:
  // The child ends with what `body` returns; it runs neither destructors of the test nor its hooks.
  explicit ForkedPeer(const std::function<int()>& body);
  // Kills and reaps a child that is still there.
  ~ForkedPeer();
  ForkedPeer(const ForkedPeer&) = delete;
  ForkedPeer& operator=(const ForkedPeer&) = delete;

  pid_t pid() const { return pid_; }
  void Kill(int signal) const;
  // Waits for the end of the child: its exit code, or minus the signal that ended it.
  int Wait();

 private:
  pid_t pid_;
  bool reaped_ = false;
};

// Open descriptors of this process.
int CountOpenFds();

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_TESTING_FORKED_PEER_H_
