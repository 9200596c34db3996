// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/xen_replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "xen/backup/xen_replica_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::byte> State(uint64_t elapsed_ns = 5'000'000) {
  return FakeXenState(FakeHvmContext({0}, std::byte{9}), FakeHvmParams(), elapsed_ns);
}

TEST_F(XenReplicaTest, ItsMemoryIsTheRamOfTheOriginal) {
  const std::unique_ptr<XenReplica> replica = Good();
  const GuestMemory& memory = replica->memory();
  EXPECT_EQ(memory.page_count(), hello_.page_count);
  for (Gfn gfn = 0; gfn < 5; ++gfn) {
    ASSERT_TRUE(memory.IsRam(gfn));
    *memory.Page(gfn) = std::byte{1};
  }
  EXPECT_FALSE(memory.IsRam(0xfeffc));
  EXPECT_FALSE(memory.IsRam(0xfefff));
}

TEST_F(XenReplicaTest, RunsAfterPrepareAndGetsItsNameAndItsNetwork) {
  pid_t toolstack = 0;
  {
    const std::unique_ptr<XenReplica> replica = Good();
    toolstack = replica->toolstack_pid();
    ASSERT_TRUE(replica->CheckState(State()).ok());
    ASSERT_TRUE(replica->Prepare(State()).ok());
    EXPECT_FALSE(world_->running);
    EXPECT_EQ(world_->context, FakeHvmContext({0}, std::byte{9}));
    EXPECT_EQ(world_->tsc.elapsed_ns, 5'000'000u);
    EXPECT_EQ(world_->tsc.incarnation, 1u);
    ASSERT_TRUE(replica->Run().ok());
    EXPECT_TRUE(world_->running);
    EXPECT_TRUE(replica->Run().ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(replica->Abandon()));
  }
  // What would have destroyed the guest with us is gone, and has not.
  EXPECT_EQ(kill(toolstack, 0), -1);
  EXPECT_FALSE(std::filesystem::exists(world_->unmade));
  const std::vector<std::string> calls = world_->Calls();
  ASSERT_GE(calls.size(), 6u);
  EXPECT_THAT(
      std::vector<std::string>(calls.begin(), calls.begin() + 6),
      ElementsAre("tsc", "context", "unpause", "announce br0", "rename web1", "offer suspend"));
  EXPECT_TRUE(world_->running);
  EXPECT_FALSE(world_->destroyed);
}

TEST_F(XenReplicaTest, TheNetworkIsToldAgainWhileTheProcessGoesOn) {
  {
    const std::unique_ptr<XenReplica> replica = Good();
    ASSERT_TRUE(replica->Prepare(State()).ok());
    ASSERT_TRUE(replica->Run().ok());
  }
  EXPECT_TRUE(Eventually([this] { return Count("announce br0") == 5; }));
  EXPECT_EQ(Count("rename web1"), 1);
  EXPECT_EQ(Count("offer suspend"), 1);
}

TEST_F(XenReplicaTest, WhatTheStoreDidNotTakeIsSaidAgain) {
  for (const std::string refused : {"rename web1", "offer suspend"}) {
    world_->calls.clear();
    world_->running = false;
    world_->refused = {refused};
    std::filesystem::remove(world_->made);
    {
      const std::unique_ptr<XenReplica> replica = Good();
      ASSERT_TRUE(replica->Prepare(State()).ok());
      ASSERT_TRUE(replica->Run().ok());
    }
    EXPECT_EQ(Count("rename web1") + Count("offer suspend"), 1) << "the other was said";
    {
      const std::lock_guard<std::mutex> lock(world_->mutex);
      world_->refused.clear();
    }
    EXPECT_TRUE(Eventually([&] { return Count(refused) == 1; }));
    EXPECT_EQ(Count("rename web1") + Count("offer suspend"), 2);
  }
}

TEST_F(XenReplicaTest, ANameThatIsTakenCostsOnlyTheName) {
  world_->refused = {"rename web1"};
  {
    const std::unique_ptr<XenReplica> replica = Good();
    ASSERT_TRUE(replica->Prepare(State()).ok());
    ASSERT_TRUE(replica->Run().ok());
  }
  EXPECT_TRUE(world_->running);
  EXPECT_FALSE(world_->destroyed);
}

TEST_F(XenReplicaTest, RunCanBeRepeatedAfterEveryFailure) {
  const std::unique_ptr<XenReplica> replica = Good();
  ASSERT_TRUE(replica->Prepare(State()).ok());
  for (const char* const call : {"state", "unpause"}) {
    world_->refused = {call};
    const absl::Status ran = replica->Run();
    EXPECT_TRUE(absl::IsInternal(ran)) << call;
    EXPECT_THAT(std::string(ran.message()), HasSubstr("it is not known whether"));
  }
  world_->refused.clear();
  EXPECT_TRUE(replica->Run().ok());
  EXPECT_TRUE(world_->running);
}

// The hypervisor has done it and the answer was lost.
TEST_F(XenReplicaTest, ADomainThatRunsAlreadyIsNotUnpausedTwice) {
  const std::unique_ptr<XenReplica> replica = Good();
  ASSERT_TRUE(replica->Prepare(State()).ok());
  world_->running = true;
  EXPECT_TRUE(replica->Run().ok());
  EXPECT_THAT(world_->Calls(), Not(::testing::Contains("unpause")));
}

TEST_F(XenReplicaTest, StatesThatAreNotThisGuestsAreRefused) {
  const std::unique_ptr<XenReplica> replica = Good();
  const std::vector<std::byte> good = State();
  EXPECT_TRUE(replica->CheckState(good).ok());
  const std::vector<std::vector<std::byte>> bad = {
      {},
      std::vector<std::byte>(good.begin(), good.end() - 8),
      FakeXenState(FakeHvmContext({2}), FakeHvmParams()),  // It has two vCPUs, 0 and 1.
      FakeXenState(FakeHvmContext({}), FakeHvmParams()),   // None would run.
      FakeXenState(FakeHvmContext({0}), {}),               // Parameters are missing,
      FakeXenState(FakeHvmContext({0}), {{{1, 0xfeffc}, {17, 0xfeffe}}}),          // other,
      FakeXenState(FakeHvmContext({0}), {{{1, 0xfeffc}, {17, 0xfefff}, {9, 1}}}),  // too many.
  };
  for (const std::vector<std::byte>& state : bad) {
    EXPECT_TRUE(absl::IsInvalidArgument(replica->CheckState(state)));
    EXPECT_TRUE(absl::IsInternal(replica->Prepare(state)));
  }
  EXPECT_TRUE(world_->Calls().empty());
  std::vector<std::byte> other_clock = good;
  other_clock[8 + 4] ^= std::byte{1};
  EXPECT_THAT(std::string(replica->CheckState(other_clock).message()), HasSubstr("TSC mode"));
}

TEST_F(XenReplicaTest, OnlyWhatAGuestMaySetMayChange) {
  const std::unique_ptr<XenReplica> replica = Good();
  std::vector<HvmParam> params = FakeHvmParams();
  params.push_back({37, 0x1000});
  const std::vector<std::byte> changed = FakeXenState(FakeHvmContext({0}), params);
  EXPECT_TRUE(replica->CheckState(changed).ok());
  EXPECT_TRUE(replica->Prepare(changed).ok());
  EXPECT_TRUE(replica->Prepare(changed).ok());
  EXPECT_TRUE(replica->Prepare(State()).ok());
  EXPECT_THAT(world_->Calls(), ElementsAre("tsc", "param 37=4096", "context", "tsc", "context",
                                           "tsc", "param 37=0", "context"));
}

TEST_F(XenReplicaTest, WhatTheHypervisorRefusesIsAnErrorOfPrepare) {
  const std::unique_ptr<XenReplica> replica = Good();
  for (const char* const call : {"tsc", "context"}) {
    world_->refused = {call};
    const absl::Status prepared = replica->Prepare(State());
    EXPECT_TRUE(absl::IsInternal(prepared)) << call;
    EXPECT_THAT(std::string(prepared.message()), HasSubstr("web1 can not run"));
  }
}

TEST_F(XenReplicaTest, AnEpochIsNotTakenForACopyThatIsGone) {
  std::unique_ptr<XenReplica> replica = Good();
  world_->destroyed = true;
  EXPECT_TRUE(absl::IsAborted(replica->CheckState(State())));
  EXPECT_THAT(std::string(replica->CheckState(State()).message()), HasSubstr("was destroyed"));
  world_->destroyed = false;
  world_->running = true;
  EXPECT_TRUE(absl::IsAborted(replica->CheckState(State())));
  EXPECT_THAT(std::string(replica->CheckState(State()).message()), HasSubstr("was unpaused"));
  world_->running = false;
  EXPECT_TRUE(replica->CheckState(State()).ok());
  kill(replica->toolstack_pid(), SIGKILL);
  absl::Status checked;
  while (checked.ok()) checked = replica->CheckState(State());
  EXPECT_TRUE(absl::IsAborted(checked));
  EXPECT_THAT(std::string(checked.message()), HasSubstr("has ended"));
}

TEST_F(XenReplicaTest, ACopyThatWasUnpausedDoesNotRunBeforeItsTime) {
  const std::unique_ptr<XenReplica> replica = Good();
  world_->running = true;
  EXPECT_TRUE(replica->Prepare(State()).ok());
  EXPECT_EQ(world_->Calls().front(), "pause");
  EXPECT_FALSE(world_->running);
  EXPECT_TRUE(replica->Run().ok());
  EXPECT_TRUE(world_->running);
}

TEST_F(XenReplicaTest, ACopyOutlivesItsToolstackAndIsStillAbandonedOrRun) {
  for (const bool run : {false, true}) {
    std::filesystem::remove(world_->made);
    std::filesystem::remove(world_->unmade);
    const std::unique_ptr<XenReplica> replica = Good();
    const pid_t toolstack = replica->toolstack_pid();
    ASSERT_TRUE(replica->Prepare(State()).ok());
    ASSERT_TRUE(replica->Outlive().ok());
    EXPECT_TRUE(replica->Outlive().ok()) << "idempotent";
    EXPECT_TRUE(Eventually([&] { return absl::IsAborted(replica->CheckState(State())); }))
        << "process " << toolstack << " still lives";
    EXPECT_FALSE(std::filesystem::exists(world_->unmade));
    EXPECT_FALSE(world_->running);
    EXPECT_TRUE((run ? replica->Run() : replica->Abandon()).ok());
    EXPECT_EQ(world_->running, run);
    EXPECT_EQ(std::filesystem::exists(world_->unmade), !run);
  }
}

TEST_F(XenReplicaTest, ADestroyedCopyDoesNotRun) {
  const std::unique_ptr<XenReplica> replica = Good();
  world_->destroyed = true;
  const absl::Status ran = replica->Run();
  EXPECT_TRUE(absl::IsNotFound(ran)) << "no second call can help";
  EXPECT_THAT(std::string(ran.message()), HasSubstr("was destroyed by somebody else"));
  EXPECT_THAT(world_->Calls(), ElementsAre());
}

TEST_F(XenReplicaTest, AbandonLeavesItToTheToolstack) {
  const std::unique_ptr<XenReplica> replica = Good();
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
  EXPECT_TRUE(world_->Calls().empty());
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_EQ(replica->memory().page_count(), 0u);
}

TEST_F(XenReplicaTest, DroppingItAbandonsIt) {
  Good().reset();
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(XenReplicaTest, ACopyWhoseToolstackWasKilledIsDestroyedByCommand) {
  const std::unique_ptr<XenReplica> replica = Good();
  kill(replica->toolstack_pid(), SIGKILL);
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_EQ(ReadFolderFile("destroyed-by-command"), "7\n");
  EXPECT_TRUE(world_->Calls().empty());
}

TEST_F(XenReplicaTest, AToolstackThatHangsIsKilledAndTheCopyDestroyed) {
  options_.destroy_timeout = absl::Milliseconds(100);
  const std::unique_ptr<XenReplica> replica = *Build("hangs-at-end");
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(XenReplicaTest, TheHypervisorDestroysWhatTheToolstackDoesNot) {
  const std::unique_ptr<XenReplica> replica = *Build("destroys-nothing");
  world_->refused = {"destroy"};
  EXPECT_TRUE(absl::IsInternal(replica->Abandon()));
  world_->refused.clear();
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_THAT(world_->Calls(), ElementsAre("destroy"));
}

}  // namespace
}  // namespace haven
