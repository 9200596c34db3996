// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/peer_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <vector>

#include "engine/base/fd.h"
#include "transport/shm/deadline.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

// Sleeps until it is killed.
int SleepForEver() {
  for (;;) pause();
}

TEST(PeerProcess, KillWaitsForTheEnd) {
  ForkedPeer child(SleepForEver);
  const auto peer = PeerProcess::Open(child.pid());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ((*peer)->pid(), child.pid());
  EXPECT_FALSE((*peer)->IsDead());
  EXPECT_TRUE((*peer)->Kill(kTestTimeout).ok());
  EXPECT_TRUE((*peer)->IsDead());
  EXPECT_EQ(child.Wait(), -SIGKILL);
  // Reaped by its parent: there is nobody left to kill, and that is fine.
  EXPECT_TRUE((*peer)->IsDead());
  EXPECT_TRUE((*peer)->Kill(kTestTimeout).ok());
}

TEST(PeerProcess, AStoppedProcessDiesToo) {
  ForkedPeer child(SleepForEver);
  child.Kill(SIGSTOP);
  EXPECT_TRUE((*PeerProcess::Open(child.pid()))->Kill(kTestTimeout).ok());
}

// A writer that a signal does not stop at once: it is inside the kernel, which copies a whole file
// into the shared memory before it looks at signals.
class SlowToDie {
 public:
  static constexpr size_t kBytes = size_t{16} << 20;

  SlowToDie()
      : shared_(static_cast<std::byte*>(
            mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    for (int i = 0; i < 2; ++i) {
      files_[i] = UniqueFd(memfd_create("pattern", MFD_CLOEXEC));
      const std::vector<char> piece(1 << 20, static_cast<char>(i));
      for (size_t at = 0; at < kBytes; at += piece.size()) {
        EXPECT_EQ(write(files_[i].get(), piece.data(), piece.size()),
                  static_cast<ssize_t>(piece.size()));
      }
    }
  }
  ~SlowToDie() { munmap(shared_, kBytes); }

  int WriteForEver() const {
    for (int i = 1;; i ^= 1) {
      if (pread(files_[i].get(), shared_, kBytes, 0) <= 0) return 1;
    }
  }
  std::byte First() const { return *static_cast<volatile std::byte*>(shared_); }
  // How many pages show the second pattern.
  size_t CountPages() const {
    size_t count = 0;
    for (size_t at = 0; at < kBytes; at += 4096) {
      count += static_cast<volatile std::byte*>(shared_)[at] == std::byte{1} ? 1 : 0;
    }
    return count;
  }

 private:
  std::byte* const shared_;
  UniqueFd files_[2];
};

TEST(PeerProcess, NothingIsWrittenAfterKillHasReturned) {
  const SlowToDie writer;
  for (int round = 0; round < 5; ++round) {
    ForkedPeer child([&] { return writer.WriteForEver(); });
    const auto peer = PeerProcess::Open(child.pid());
    ASSERT_TRUE(peer.ok()) << peer.status();
    const ShmDeadline deadline(kTestTimeout);
    const std::byte before = writer.First();
    while (writer.First() == before) ASSERT_FALSE(deadline.Passed());
    const absl::Status killed = (*peer)->Kill(kTestTimeout);
    const size_t then = writer.CountPages();
    ASSERT_TRUE(killed.ok()) << killed;
    EXPECT_EQ(child.Wait(), -SIGKILL);
    EXPECT_EQ(writer.CountPages(), then) << round;
  }
}

TEST(PeerProcess, ItsOwnProcessIsNotKilled) {
  const auto self = PeerProcess::Open(getpid());
  ASSERT_TRUE(self.ok()) << self.status();
  EXPECT_EQ((*self)->Kill(kTestTimeout).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(PeerProcess, APidThatNobodyHasIsUnavailable) {
  ForkedPeer child([] { return 0; });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(PeerProcess::Open(child.pid()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(PeerProcess::Open(-1).ok());
}

TEST(PeerProcess, AProcessThatCouldNotBeKilledIsRefusedAtOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to act as another user";
  ForkedPeer child([target = getpid()] {
    if (setresuid(65534, 65534, 65534) != 0) return 1;
    const absl::Status refused = PeerProcess::Open(target).status();
    return refused.code() == absl::StatusCode::kPermissionDenied ? 0 : 2;
  });
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace haven
