// SPDX-License-Identifier: Apache-2.0
//
// The engine in a process of its own, which dies or hangs at any moment.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <new>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/random.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/process_pair_testing.h"
#include "engine/membership/arbiter_storage.h"
#include "engine/membership/file_arbiter.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

constexpr uint64_t kPages = 300;

// A child that runs `body`. Made while this process has no other thread.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(fork()) {
    HAVEN_CHECK_GE(pid_, 0) << "errno " << errno;
    if (pid_ != 0) return;
    body();
    _exit(0);
  }
  ~Child() {
    if (pid_ == 0 || reaped_) return;
    Send(SIGKILL);
    Wait();
  }
  void Send(int signal) const { HAVEN_CHECK_EQ(kill(pid_, signal), 0) << "errno " << errno; }
  // The signal that ended it; 0: it returned.
  int Wait() {
    int status = 0;
    while (waitpid(pid_, &status, 0) != pid_) HAVEN_CHECK_EQ(errno, EINTR);
    reaped_ = true;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

 private:
  const pid_t pid_;
  bool reaped_ = false;
};

// Memory that a child shares.
class SharedWire {
 public:
  SharedWire()
      : memory_(mmap(nullptr, sizeof(TestWire), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0)) {
    HAVEN_CHECK(memory_ != MAP_FAILED) << "errno " << errno;
    wire_ = new (memory_) TestWire();
  }
  ~SharedWire() { munmap(memory_, sizeof(TestWire)); }
  TestWire& operator*() const { return *wire_; }
  TestWire* operator->() const { return wire_; }

 private:
  void* memory_;
  TestWire* wire_;
};

class ProcessDeathTest : public testing::Test {
 protected:
  ProcessDeathTest() { std::ofstream(folder_.File(std::string(kArbiterMarkerName))) << ""; }

  void RunEngine() {
    ShmTransport transport;
    TestGuest guest("g1", kPages, *wire_);
    EngineOptions options = TestEngineOptions(address_);
    options.driver.protocol.detect_ns = 300 * kNsPerMs;
    absl::StatusOr<std::unique_ptr<EngineLoop>> loop =
        EngineLoop::Create(options, {.guests = {{&guest, &guest}},
                                     .output = &guest,
                                     .transport = &transport,
                                     .arbiter = std::make_shared<FileArbiter>(folder_.path())});
    HAVEN_CHECK_OK(loop);
    (*loop)->Run(std::nullopt);
  }

  void StartBackup() {
    backup_.emplace(transport_, address_, TestSessionOptions(), factory_,
                    std::make_shared<FileArbiter>(folder_.path()));
  }

  // `harm` came over the engine after `steps` more steps were released.
  void PromotesAfter(uint64_t steps, int harm) {
    Child engine([this] { RunEngine(); });
    StartBackup();
    ASSERT_TRUE(backup_->Reaches("protected"));
    const uint64_t from = wire_->released;
    ASSERT_TRUE(WaitFor([&] { return wire_->released >= from + steps; }));
    engine.Send(harm);
    ASSERT_TRUE(WaitFor([&] { return backup_->newest_result().has_value(); }));
    // A hanging engine was killed by the cut-off, before anything ran here.
    EXPECT_EQ(engine.Wait(), SIGKILL);
    ASSERT_EQ(backup_->newest_result()->end, BackupEnd::kPromoted)
        << backup_->newest_result()->cause;
    const ReplicaDomain& replica = *backup_->newest().replicas()[0];
    const uint64_t step = PromotedStep(replica);
    EXPECT_GE(step, wire_->released) << "output of a later step has left";
    EXPECT_LE(step, wire_->sent);
    EXPECT_TRUE(IsTestStep(replica.memory(), step)) << "step " << step;
  }

  ShortFolder folder_;
  const std::string address_ = "unix:" + folder_.File("backup.sock");
  SharedWire wire_;
  ShmTransport transport_;
  TestReplicaFactory factory_;
  std::optional<PairBackup> backup_;
};

class EngineKilledAfter : public ProcessDeathTest, public testing::WithParamInterface<int> {};

TEST_P(EngineKilledAfter, ThePromotedCopyIsACommittedEpoch) {
  Random random(static_cast<uint64_t>(GetParam()));
  PromotesAfter(random.Below(40), SIGKILL);
}

INSTANTIATE_TEST_SUITE_P(Steps, EngineKilledAfter, testing::Range(0, 6));

TEST_F(ProcessDeathTest, AHangingEngineIsKilledBeforeTheCopyRuns) { PromotesAfter(5, SIGSTOP); }

}  // namespace
}  // namespace haven
