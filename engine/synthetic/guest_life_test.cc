// SPDX-License-Identifier: Apache-2.0
//
// Who may die when: engines, guests, and guests by themselves.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/random.h"
#include "engine/synthetic/attached_guest_test.h"
#include "engine/synthetic/packet_log.h"
#include "engine/synthetic/state.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;
using GuestLifeTest = AttachedGuestTest;

TEST_F(GuestLifeTest, ASecondEngineIsRefusedWhileTheFirstIsAttached) {
  Start("synthetic:mem=1M");
  Attach();
  const absl::Status second = SyntheticConnection::Attach(dir_, spec_.name).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr(absl::StrCat("process ", getpid(), " is")));
  EXPECT_EQ(domain_->End(), DomainEnd::kNone);
  Detach();
  Attach();
}

TEST_F(GuestLifeTest, AKilledEngineLeavesTheGuestAsItWas) {
  const std::string log = PathOf("log");
  Start("synthetic:mem=1M,dirty=10000,output=1000,log=" + log);
  for (const bool suspended : {false, true}) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t engine = fork();
    if (engine == 0) {
      const auto connection = SyntheticConnection::Attach(dir_, spec_.name);
      if (!connection.ok()) _exit(1);
      SyntheticOutput output({*connection});
      const auto suspend = SyntheticSuspend::Create(*connection);
      if (!suspend.ok() || !output.Hold().ok()) _exit(2);
      if (suspended && (!(*suspend)->Request().ok() ||
                        !AwaitState(**suspend, SuspendMethod::State::kSuspended))) {
        _exit(3);
      }
      if (write(ready[1], "r", 1) != 1) _exit(4);
      while (true) pause();
    }
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    ASSERT_EQ(kill(engine, SIGKILL), 0);
    int status;
    ASSERT_EQ(waitpid(engine, &status, 0), engine);
    ASSERT_TRUE(WIFSIGNALED(status));

    // The next one attaches at once, and finds everything as the dead one left it.
    Attach();
    const uint64_t released = Query().released_packets;
    EXPECT_EQ(Query().gate, GateMode::kHolding);
    EXPECT_EQ(Query().suspended, suspended);
    EXPECT_TRUE(output_->Health().ok());
    if (!suspended) {
      EXPECT_TRUE(AwaitProgress());
      const uint64_t held = Query().held_packets;
      EXPECT_TRUE(Eventually([&] { return Query().held_packets > held; }));
      EXPECT_EQ(Query().released_packets, released) << "nothing leaves while it is held";
    }
    EXPECT_EQ(ReadPacketLog(log)->size(), released);
    ASSERT_TRUE(suspend_->Resume().ok());
    EXPECT_TRUE(AwaitProgress());
    Detach();
  }
  // An open gate stays open as well.
  Attach();
  ASSERT_TRUE(output_->OpenAll().ok());
  Detach();
  const uint64_t released = Query().released_packets;
  EXPECT_TRUE(Eventually([&] { return Query().released_packets > released; }));
  EXPECT_EQ(Query().gate, GateMode::kOpen);
  Attach();
}

// What an engine does, without replication: each epoch's output leaves after its state was taken.
[[noreturn]] void RunEpochs(const std::string& dir, const SyntheticSpec& spec, int ready) {
  const auto connection = SyntheticConnection::Attach(dir, spec.name);
  if (!connection.ok()) _exit(1);
  SyntheticDomain domain(*connection);
  SyntheticOutput output({*connection});
  const auto suspend = *SyntheticSuspend::Create(*connection);
  bool ok = output.Hold().ok() && suspend->Resume().ok() && write(ready, "r", 1) == 1;
  while (ok) {
    std::array<std::byte, kSyntheticMaxStateBytes> room;
    ok = suspend->Request().ok() && AwaitState(*suspend, SuspendMethod::State::kSuspended) &&
         output.Barrier().ok() && domain.CaptureState(room).ok() && suspend->Resume().ok() &&
         output.ReleaseOne().ok();
  }
  _exit(2);
}

TEST_F(GuestLifeTest, EnginesKilledAtRandomMomentsLeaveOneOrderlyHistory) {
  const std::string log = PathOf("log");
  Start("synthetic:mem=1M,dirty=20000,output=10000,packet=64,gate=64M,vcpus=2,log=" + log);
  Random random(20240607);
  for (int round = 0; round < 40; ++round) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t engine = fork();
    if (engine == 0) RunEpochs(dir_, spec_, ready[1]);
    close(ready[1]);
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1) << "the next engine could not go on";
    close(ready[0]);
    usleep(static_cast<useconds_t>(random.Below(3000)));
    ASSERT_EQ(kill(engine, SIGKILL), 0);
    int status;
    ASSERT_EQ(waitpid(engine, &status, 0), engine);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    // What it had sent by then is carried out before the guest knows that it is gone.
    ASSERT_TRUE(Eventually([&] { return Query().controller_pid == 0; }));
    const SyntheticGuestInfo info = Query();
    EXPECT_EQ(info.gate, GateMode::kHolding);
    const std::vector<SyntheticPacket> packets = *ReadPacketLog(log);
    EXPECT_EQ(packets.size(), info.released_packets);
    for (size_t i = 0; i < packets.size(); ++i) ASSERT_EQ(packets[i].sequence, i + 1);
    if (!info.suspended) {
      EXPECT_TRUE(Eventually([&] { return Query().held_packets > info.held_packets; }));
    }
    EXPECT_EQ(ReadPacketLog(log)->size(), packets.size()) << "nothing leaves without an engine";
  }
  Attach();
}

TEST_F(GuestLifeTest, AKilledGuestIsSeenByEverySeam) {
  Start("synthetic:mem=1M");
  Attach();
  std::vector<uint64_t> dirty(domain_->memory().bitmap_words(), 0);
  ASSERT_TRUE(domain_->EnableLogDirty().ok());
  ASSERT_EQ(kill(pid_, SIGKILL), 0);
  ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kGone)) << "the event descriptor tells";
  EXPECT_EQ(domain_->End(), DomainEnd::kVanished);
  EXPECT_EQ(domain_->FetchAndClearDirty(dirty).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(domain_->EnableLogDirty().code(), absl::StatusCode::kUnavailable);
  std::array<std::byte, kSyntheticMaxStateBytes> room;
  EXPECT_EQ(domain_->CaptureState(room).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(suspend_->Request().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(suspend_->Resume().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(output_->Hold().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(output_->ReleaseOne().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(output_->Health().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(output_->Discard().ok());
  EXPECT_TRUE(output_->Remove().ok());
  domain_->DisableLogDirty();
  EXPECT_TRUE(domain_->Destroy().ok());
  EXPECT_TRUE(domain_->Destroy().ok()) << "already gone";
  EXPECT_EQ(QuerySyntheticGuest(dir_, spec_.name).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GuestLifeTest, AGuestThatEndsStaysUntilItIsDestroyedWhileAttached) {
  for (const DomainEnd reason : {DomainEnd::kShutdown, DomainEnd::kReboot, DomainEnd::kCrash}) {
    Start("synthetic:mem=1M,dirty=10000");
    Attach();
    ASSERT_TRUE(EndSyntheticGuest(dir_, spec_.name, reason).ok());
    ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kGone));
    EXPECT_EQ(domain_->End(), reason);
    std::array<std::byte, kSyntheticMaxStateBytes> room;
    EXPECT_TRUE(domain_->CaptureState(room).ok()) << "its last state can be committed";
    ASSERT_TRUE(domain_->Destroy().ok());
    EXPECT_EQ(domain_->End(), reason);
    Detach();
  }
}

TEST_F(GuestLifeTest, AGuestThatEndsWhileItsOutputIsHeldIsKeptForTheNextEngine) {
  Start("synthetic:mem=1M");
  Attach();
  ASSERT_TRUE(output_->Hold().ok());
  Detach();
  ASSERT_TRUE(EndSyntheticGuest(dir_, spec_.name, DomainEnd::kShutdown).ok());
  Attach();
  ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kGone));
  EXPECT_EQ(domain_->End(), DomainEnd::kShutdown);
  ASSERT_TRUE(output_->OpenAll().ok());
  ASSERT_TRUE(output_->Remove().ok());
  Detach();
  EXPECT_TRUE(NoProcessLeft()) << "nothing keeps it any more";
}

TEST_F(GuestLifeTest, AGuestThatEndedAndWhoseOutputWasDiscardedIsKeptForNobody) {
  Start("synthetic:mem=1M");
  Attach();
  ASSERT_TRUE(output_->Hold().ok());
  ASSERT_TRUE(EndSyntheticGuest(dir_, spec_.name, DomainEnd::kCrash).ok());
  ASSERT_TRUE(output_->Discard().ok());
  EXPECT_EQ(Query().gate, GateMode::kDiscarded);
  Detach();
  EXPECT_TRUE(NoProcessLeft());
}

TEST_F(GuestLifeTest, AnUnprotectedGuestThatEndsIsGone) {
  Start("synthetic:mem=1M");
  ASSERT_TRUE(EndSyntheticGuest(dir_, spec_.name, DomainEnd::kShutdown).ok());
  EXPECT_TRUE(NoProcessLeft());
  EXPECT_EQ(QuerySyntheticGuest(dir_, spec_.name).status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(access(PathOf("synthetic-synthetic.sock").c_str(), F_OK), 0);
}

TEST_F(GuestLifeTest, OrdersThatMakeNoSenseAreRefused) {
  Start("synthetic:mem=1M");
  EXPECT_EQ(EndSyntheticGuest(dir_, spec_.name, DomainEnd::kNone).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EndSyntheticGuest(dir_, spec_.name, DomainEnd::kVanished).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(InjectSyntheticFault(dir_, spec_.name, static_cast<SyntheticFault>(9)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(EndSyntheticGuest(dir_, "nobody", DomainEnd::kShutdown).code(),
            absl::StatusCode::kNotFound);
  Attach();
}

}  // namespace
}  // namespace haven
