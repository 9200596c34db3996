// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/cooperative_suspend.h"

#include <poll.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "engine/base/manual_clock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

using State = SuspendMethod::State;

constexpr char kPath[] = "/local/domain/5/control/shutdown";
constexpr char kMark[] = "/libxl/5/haven-suspends";

class CooperativeSuspendTest : public ::testing::Test {
 protected:
  CooperativeSuspendTest() { Start(); }

  // Another process takes hold of the guest; the one before was killed, or ended in order.
  void Start() {
    stop_ = std::make_shared<XenStopState>();
    auto watch = std::make_unique<FakeStore>(content_);
    auto event = std::make_unique<FakeSuspendEvent>();
    watch_ = watch.get();
    event_ = event.get();
    CooperativeSuspend::Seams seams;
    seams.control = &control_;
    seams.store = std::make_unique<FakeStore>(requests_);
    seams.watch = std::move(watch);
    seams.event = std::move(event);
    seams.device_model = device_model_;
    seams.clock = &clock_;
    FakeStore patient(content_);
    auto suspend = CooperativeSuspend::Create(std::move(seams), stop_, patient);
    HAVEN_CHECK_OK(suspend.status());
    suspend_ = *std::move(suspend);
  }

  void Kill() {
    // What its destructor would do to the store is undone.
    const std::map<std::string, std::string> entries = content_->entries;
    suspend_.reset();
    content_->entries = entries;
  }

  bool Readable() const {
    pollfd ready = {suspend_->event_fd(), POLLIN, 0};
    return poll(&ready, 1, 0) == 1;
  }
  // The guest reads its request, as Linux does.
  void Take() { content_->entries[kPath] = ""; }
  void Suspend() {
    control_.Suspend();
    event_->Announce();
  }
  std::string Asked() const {
    const auto found = content_->entries.find(kPath);
    return found == content_->entries.end() ? "" : found->second;
  }

  FakeDomainControl control_{100};
  std::shared_ptr<FakeDeviceModel> device_model_;  // None.
  std::shared_ptr<FakeStoreContent> content_ = std::make_shared<FakeStoreContent>();
  // What the handle for requests sees.
  std::shared_ptr<FakeStoreContent> requests_ = content_;
  std::shared_ptr<XenStopState> stop_;
  ManualClock clock_{kNsPerSecond};
  FakeStore* watch_ = nullptr;
  FakeSuspendEvent* event_ = nullptr;
  std::unique_ptr<CooperativeSuspend> suspend_;
};

TEST_F(CooperativeSuspendTest, StopsAndGoesOn) {
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(Asked(), "suspend");
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_FALSE(stop_->stopped);
  Take();
  Suspend();
  EXPECT_TRUE(Readable());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
  EXPECT_FALSE(Readable()) << "an event is taken by the look it leads to";
  EXPECT_TRUE(stop_->stopped);
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(control_.resumes, 1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_FALSE(stop_->stopped);
}

// A guest with a device model.
class DeviceModelSuspendTest : public CooperativeSuspendTest {
 protected:
  DeviceModelSuspendTest() {
    device_model_ = std::make_shared<FakeDeviceModel>();
    device_model_->on_call = [this] {
      EXPECT_TRUE(control_.status.suspended()) << "it stands still only while the guest does";
    };
    Start();
  }
};

TEST_F(DeviceModelSuspendTest, ItStopsAfterTheGuestAndGoesOnBeforeIt) {
  device_model_->slow = true;
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_TRUE(device_model_->calls.empty()) << "the guest runs yet";
  Suspend();
  EXPECT_EQ(suspend_->Poll(), State::kRunning) << "its devices do";
  EXPECT_EQ(device_model_->calls, std::vector<std::string>{"stop"});
  EXPECT_FALSE(Readable());
  device_model_->Announce(DeviceModel::State::kStopped);
  EXPECT_TRUE(Readable());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
  EXPECT_FALSE(Readable());
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(device_model_->calls, (std::vector<std::string>{"stop", "run"}));
  EXPECT_EQ(control_.resumes, 1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(DeviceModelSuspendTest, OneThatIsLostHoldsNothingUp) {
  ASSERT_TRUE(suspend_->Request().ok());
  Suspend();
  device_model_->state = DeviceModel::State::kLost;
  EXPECT_EQ(suspend_->Poll(), State::kSuspended) << "the capture of its state tells";
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(control_.resumes, 1);
}

TEST_F(DeviceModelSuspendTest, WhatADeadProcessHasStoppedGoesOnWithTheGuest) {
  content_->entries[kMark] = "asked";
  Start();
  control_.Suspend();
  device_model_->state = DeviceModel::State::kStopped;
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_EQ(device_model_->calls, std::vector<std::string>{"run"});
  EXPECT_EQ(control_.resumes, 1);
}

TEST_F(DeviceModelSuspendTest, ItGoesOnWhereSomebodyElseHasLetTheGuest) {
  ASSERT_TRUE(suspend_->Request().ok());
  Suspend();
  ASSERT_EQ(suspend_->Poll(), State::kSuspended);
  control_.status.shutdown = false;
  device_model_->on_call = nullptr;
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(device_model_->calls, (std::vector<std::string>{"stop", "run"}));
  EXPECT_EQ(control_.resumes, 0);
}

TEST_F(CooperativeSuspendTest, TheBeginningIsMorePatientThanAnEpoch) {
  content_->entries[kMark] = "asked";
  requests_ = std::make_shared<FakeStoreContent>();
  requests_->error = absl::DeadlineExceededError("300 ms");
  Start();
  EXPECT_EQ(suspend_->Poll(), State::kSuspended) << "the mark was seen";
}

TEST_F(CooperativeSuspendTest, ARequestThatIsNotTakenIsTakenBack) {
  ASSERT_TRUE(suspend_->Request().ok());
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(Asked(), "");
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_EQ(control_.resumes, 0);
}

TEST_F(CooperativeSuspendTest, ARequestThatWasTakenIsLetGoWhenItIsDone) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended) << "it is still to stop";
  EXPECT_EQ(control_.resumes, 0);
  Suspend();
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_EQ(control_.resumes, 1);
}

TEST_F(CooperativeSuspendTest, AGuestThatTookARequestAndFailedRunsAfterAWhile) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  ASSERT_TRUE(suspend_->Resume().ok());
  clock_.AdvanceNs(CooperativeSuspend::kTakenMaxNs - 1);
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
  clock_.AdvanceNs(1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, AnotherRequestIsAnsweredByTheOneThatWasTaken) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  ASSERT_TRUE(suspend_->Resume().ok());
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(Asked(), "") << "a second one would stop it twice";
  Suspend();
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
}

TEST_F(CooperativeSuspendTest, AGuestThatAnEarlierEngineLeftStoppedGoesOn) {
  control_.Suspend();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(control_.resumes, 1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, ResumeIsIdempotent) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  Suspend();
  ASSERT_EQ(suspend_->Poll(), State::kSuspended);
  ASSERT_TRUE(suspend_->Resume().ok());
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(control_.resumes, 1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, ARequestThatAKilledProcessLeftIsLetGoWhenItIsDone) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  Kill();
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended) << "it may still stop";
  Suspend();
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  EXPECT_EQ(control_.resumes, 1);
  suspend_.reset();
  EXPECT_FALSE(content_->entries.contains(kMark)) << "nothing is on its way any more";
}

TEST_F(CooperativeSuspendTest, WhatAKilledProcessMayHaveLeftIsAwaitedForABoundedTime) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  Kill();
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  clock_.AdvanceNs(CooperativeSuspend::kTakenMaxNs - 1);
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
  clock_.AdvanceNs(1);
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, ARequestOfAKilledProcessThatWasNotTakenIsTakenBack) {
  ASSERT_TRUE(suspend_->Request().ok());
  Kill();
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(Asked(), "");
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, AProcessThatMayHaveARequestOnItsWayLeavesTheMark) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  ASSERT_TRUE(suspend_->Resume().ok());
  suspend_.reset();
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
  suspend_.reset();
  EXPECT_TRUE(content_->entries.contains(kMark));
}

TEST_F(CooperativeSuspendTest, OneThatHasNoneLeavesNothing) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(suspend_->Request().ok());
    Take();
    Suspend();
    ASSERT_EQ(suspend_->Poll(), State::kSuspended);
    ASSERT_TRUE(suspend_->Resume().ok());
  }
  suspend_.reset();
  EXPECT_FALSE(content_->entries.contains(kMark));
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, AGuestThatAKilledProcessMayHaveAskedIsAskedAgain) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  Kill();
  Start();
  ASSERT_TRUE(suspend_->Resume().ok());
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(Asked(), "suspend") << "it is not certain that it stops otherwise";
}

TEST_F(CooperativeSuspendTest, AGuestThatDoesNotStopIsAskedAgainAfterAWhile) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  ASSERT_TRUE(suspend_->Resume().ok());
  for (int i = 0; i < 2; ++i) {
    clock_.AdvanceNs(CooperativeSuspend::kTakenMaxNs / 2);
    EXPECT_EQ(Asked(), "");
    ASSERT_TRUE(suspend_->Request().ok());
    ASSERT_TRUE(i == 1 || suspend_->Resume().ok());
  }
  EXPECT_EQ(Asked(), "suspend") << "giving up again must not put it off";
}

TEST_F(CooperativeSuspendTest, AGuestThatStandsIsNotAskedOnceMore) {
  control_.Suspend();
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(Asked(), "") << "it would stop again as soon as it goes on";
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
}

TEST_F(CooperativeSuspendTest, ARequestThatCanNotBeTakenBackMayHaveBeenTaken) {
  ASSERT_TRUE(suspend_->Request().ok());
  Take();
  content_->error = absl::UnavailableError("no daemon");
  EXPECT_FALSE(suspend_->Resume().ok());
  content_->error = absl::OkStatus();
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(suspend_->Poll(), State::kSuspended);
}

TEST_F(CooperativeSuspendTest, ARequestThatWasNotSentIsNotAwaited) {
  ASSERT_TRUE(suspend_->Request().ok());
  ASSERT_TRUE(suspend_->Resume().ok());
  content_->error = absl::DeadlineExceededError("the store is silent");
  EXPECT_TRUE(absl::IsDeadlineExceeded(suspend_->Request()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(suspend_->Resume()));
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
  content_->error = absl::OkStatus();
  ASSERT_TRUE(suspend_->Request().ok());
  EXPECT_EQ(Asked(), "suspend") << "it is asked as soon as the store answers again";
}

TEST_F(CooperativeSuspendTest, AGuestThatEndsIsGone) {
  for (const XenShutdown reason :
       {XenShutdown::kPoweroff, XenShutdown::kReboot, XenShutdown::kCrash}) {
    control_.status.shutdown = false;
    ASSERT_TRUE(suspend_->Request().ok());
    control_.End(reason);
    EXPECT_EQ(suspend_->Poll(), State::kGone);
    EXPECT_TRUE(absl::IsUnavailable(suspend_->Resume()));
  }
  control_.status.shutdown = false;
  control_.status.dying = true;
  EXPECT_EQ(suspend_->Poll(), State::kGone);
  control_.error = absl::NotFoundError("gone");
  EXPECT_EQ(suspend_->Poll(), State::kGone);
  EXPECT_TRUE(absl::IsUnavailable(suspend_->Resume()));
}

TEST_F(CooperativeSuspendTest, AnErrorOfTheHypervisorIsNoEnd) {
  control_.error = absl::InternalError("EAGAIN");
  EXPECT_EQ(suspend_->Poll(), State::kRunning);
}

TEST_F(CooperativeSuspendTest, AStoreThatDoesNotAnswerIsReported) {
  content_->error = absl::UnavailableError("no daemon");
  EXPECT_TRUE(absl::IsUnavailable(suspend_->Request()));
  EXPECT_TRUE(absl::IsUnavailable(suspend_->Resume()));
}

TEST_F(CooperativeSuspendTest, TheStoreIsToldOnlyIfItMayHaveSeenTheStop) {
  ASSERT_TRUE(suspend_->Request().ok());
  Suspend();
  ASSERT_EQ(suspend_->Poll(), State::kSuspended);
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(content_->resumed_domains, 0);
  ASSERT_TRUE(suspend_->Request().ok());
  Suspend();
  watch_->Announce();
  EXPECT_TRUE(Readable());
  ASSERT_EQ(suspend_->Poll(), State::kSuspended);
  ASSERT_TRUE(suspend_->Resume().ok());
  EXPECT_EQ(content_->resumed_domains, 1);
}

}  // namespace
}  // namespace haven
