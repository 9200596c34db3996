// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_domain.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "engine/synthetic/attached_guest_test.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/state.h"
#include "engine/synthetic/verify.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using SyntheticDomainTest = AttachedGuestTest;

TEST_F(SyntheticDomainTest, TheGuestSaysWhatItIs) {
  Start("synthetic:mem=4M,name=web1,vcpus=2");
  Attach();
  EXPECT_EQ(domain_->info().name, "web1");
  EXPECT_EQ(domain_->info().uuid, SyntheticUuid(spec_));
  EXPECT_EQ(*ParseSyntheticSpec(domain_->info().config), spec_);
  EXPECT_EQ(domain_->memory().page_count(), SyntheticLayout(spec_).page_count());
  EXPECT_EQ(domain_->max_state_bytes(), SyntheticStateBytes(2));
  EXPECT_EQ(domain_->End(), DomainEnd::kNone);
  const SyntheticGuestInfo info = Query();
  EXPECT_EQ(info.spec, spec_);
  EXPECT_EQ(info.pid, pid_);
  EXPECT_EQ(info.controller_pid, getpid());
  EXPECT_FALSE(info.waiting);
}

TEST_F(SyntheticDomainTest, PreCopyOfARunningGuestEndsInTheGuestAtOneInstant) {
  Start("synthetic:mem=8M,vcpus=2,dirty=50000,block=256,output=500");
  Attach();
  const GuestMemory& memory = domain_->memory();
  std::vector<std::byte> copy(memory.page_count() * kPageBytes);
  const auto copy_page = [&](Gfn gfn) {
    if (memory.IsRam(gfn)) std::copy_n(memory.Page(gfn), kPageBytes, &copy[gfn * kPageBytes]);
  };
  ASSERT_TRUE(domain_->EnableLogDirty().ok());
  for (Gfn gfn = 0; gfn < memory.page_count(); ++gfn) copy_page(gfn);
  for (int round = 0; round < 20; ++round) {
    // The guest runs in all rounds but the last.
    if (round == 19) SuspendGuest();
    std::vector<uint64_t> dirty(memory.bitmap_words(), 0);
    ASSERT_TRUE(domain_->FetchAndClearDirty(dirty).ok());
    for (Gfn gfn = 0; gfn < memory.page_count(); ++gfn) {
      if ((dirty[gfn / 64] >> (gfn % 64)) & 1) copy_page(gfn);
    }
    ASSERT_TRUE(round == 19 || AwaitProgress());
  }
  std::vector<std::byte> record(domain_->max_state_bytes());
  const absl::StatusOr<size_t> bytes = domain_->CaptureState(record);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  ASSERT_EQ(*bytes, record.size());
  const absl::StatusOr<SyntheticState> state = DecodeSyntheticState(spec_, record);
  ASSERT_TRUE(state.ok()) << state.status();
  const absl::Status equal =
      VerifySyntheticImage(spec_, SyntheticLayout(spec_).View(copy.data()), *state);
  EXPECT_TRUE(equal.ok()) << equal;
  domain_->DisableLogDirty();
  domain_->DisableLogDirty();
}

TEST_F(SyntheticDomainTest, SuspendAndResumeAsTheSeamSays) {
  Start("synthetic:mem=1M,dirty=50000");
  Attach();
  EXPECT_EQ(suspend_->Poll(), SuspendMethod::State::kRunning);
  ASSERT_TRUE(suspend_->Resume().ok()) << "without a request";
  for (int i = 0; i < 20; ++i) {
    SuspendGuest();
    const SyntheticGuestInfo stopped = Query();
    EXPECT_TRUE(stopped.suspended);
    EXPECT_EQ(Query().writes, stopped.writes);
    ASSERT_TRUE(suspend_->Resume().ok());
    EXPECT_EQ(suspend_->Poll(), SuspendMethod::State::kRunning);
    ASSERT_TRUE(AwaitProgress());
    // Taken back, however far it had come.
    ASSERT_TRUE(suspend_->Request().ok());
    ASSERT_TRUE(suspend_->Resume().ok());
    ASSERT_TRUE(suspend_->Resume().ok());
    ASSERT_TRUE(AwaitProgress());
  }
}

TEST_F(SyntheticDomainTest, StateIsRefusedWhileTheGuestRunsOrWithoutRoom) {
  Start("synthetic:mem=1M");
  Attach();
  std::array<std::byte, kSyntheticMaxStateBytes> room;
  EXPECT_EQ(domain_->CaptureState(room).status().code(), absl::StatusCode::kFailedPrecondition);
  SuspendGuest();
  EXPECT_EQ(domain_->CaptureState(std::span(room).first(10)).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(domain_->CaptureState(room).ok());
}

TEST_F(SyntheticDomainTest, ALostLogIsReportedOnceAndIsOnAgain) {
  Start("synthetic:mem=1M,dirty=10000");
  Attach();
  std::vector<uint64_t> dirty(domain_->memory().bitmap_words(), 0);
  ASSERT_TRUE(domain_->EnableLogDirty().ok());
  ASSERT_TRUE(domain_->FetchAndClearDirty(dirty).ok());
  ASSERT_TRUE(InjectSyntheticFault(dir_, spec_.name, SyntheticFault::kLoseLogDirty).ok());
  EXPECT_EQ(domain_->FetchAndClearDirty(dirty).code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(domain_->FetchAndClearDirty(dirty).ok());
}

}  // namespace
}  // namespace haven
