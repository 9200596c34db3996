// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/xen_domain.h"

#include <memory>
#include <vector>

#include "engine/base/manual_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFrames = 128;
constexpr char kMarker[] = "/libxl/5/haven-log-dirty";

class XenDomainTest : public ::testing::Test {
 protected:
  std::unique_ptr<XenDomain> Make() {
    XenDomain::Parts parts;
    parts.info.name = "g1";
    parts.control = control_;
    parts.store = std::make_unique<FakeStore>(content_);
    parts.stop = stop_;
    parts.device_model = device_model_;
    auto mapping = GuestMapping::Create("g1", std::make_unique<FakeMapper>(),
                                        {~uint64_t{0}, ~uint64_t{0} >> 1}, kFrames, false);
    HAVEN_CHECK_OK(mapping.status());
    parts.mapping = *std::move(mapping);
    auto state = StateCapture::Create(*control_, nullptr);
    HAVEN_CHECK_OK(state.status());
    parts.state = *state;
    parts.pages = kFrames;
    parts.canary = kFrames - 1;
    parts.clock = &clock_;
    parts.waits = waits_;
    auto devices_store = std::make_unique<FakeStore>(content_);
    devices_store_ = devices_store.get();
    auto devices = DeviceWatch::Create(std::move(devices_store), *parts.store, control_->domid());
    if (devices.ok()) parts.devices = *std::move(devices);
    parts.destroy = [this](uint32_t) {
      if (destroyed_.ok()) control_->error = absl::NotFoundError("gone");
      return destroyed_;
    };
    return std::make_unique<XenDomain>(std::move(parts));
  }
  absl::Status Fetch(XenDomain& domain) {
    bitmap_.assign(2, 0);
    return domain.FetchAndClearDirty(bitmap_);
  }

  ManualClock clock_{kNsPerSecond};
  bool waits_ = false;
  std::shared_ptr<FakeDomainControl> control_ = std::make_shared<FakeDomainControl>(kFrames);
  std::shared_ptr<FakeStoreContent> content_ = std::make_shared<FakeStoreContent>();
  std::shared_ptr<XenStopState> stop_ = std::make_shared<XenStopState>();
  std::shared_ptr<FakeDeviceModel> device_model_;  // None.
  absl::Status destroyed_;
  std::vector<uint64_t> bitmap_;
  FakeStore* devices_store_ = nullptr;  // The domain's, for its devices.
};

TEST_F(XenDomainTest, LogDirtyIsOursWhileItIsMarkedSo) {
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  EXPECT_EQ(content_->entries.count(kMarker), 1u);
  control_->log[9] = true;
  stop_->stopped = true;
  ASSERT_TRUE(Fetch(*domain).ok());
  EXPECT_TRUE(control_->last_clean_stopped);
  EXPECT_EQ(bitmap_[0], uint64_t{1} << 9);
  domain->DisableLogDirty();
  EXPECT_FALSE(control_->logging);
  EXPECT_EQ(content_->entries.count(kMarker), 0u);
  domain->DisableLogDirty();
}

TEST_F(XenDomainTest, WhatTheDeviceModelWritesIsLoggedAsLongAsThereIsALog) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  std::vector<bool> logging;
  device_model_->on_call = [&] { logging.push_back(control_->logging); };
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  EXPECT_EQ(logging, std::vector<bool>{false}) << "before there is one";
  ASSERT_TRUE(Fetch(*domain).ok());
  EXPECT_EQ(device_model_->calls.size(), 1u);
  control_->log[kFrames - 1] = false;  // Somebody has emptied it, as `xl save` does.
  EXPECT_TRUE(absl::IsAborted(Fetch(*domain)));
  EXPECT_EQ(device_model_->calls, (std::vector<std::string>{"log", "log"}));
  domain->DisableLogDirty();
  EXPECT_EQ(device_model_->calls.size(), 2u) << "it is never told to log no more";
  device_model_->error = absl::UnavailableError("it is gone");
  EXPECT_TRUE(absl::IsUnavailable(domain->EnableLogDirty()));
  EXPECT_FALSE(control_->logging);
  EXPECT_EQ(content_->entries.count(kMarker), 0u);
}

// The toolstack takes the hypervisor's log first, and then tells QEMU.
TEST_F(XenDomainTest, WhatADeviceModelIsToldLateLosesPagesOnceMore) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  control_->log[kFrames - 1] = false;
  EXPECT_TRUE(absl::IsAborted(Fetch(*domain)));
  EXPECT_TRUE(Fetch(*domain).ok());
  clock_.AdvanceNs(2 * kNsPerSecond);
  EXPECT_TRUE(absl::IsAborted(Fetch(*domain)));
  EXPECT_EQ(device_model_->calls, (std::vector<std::string>{"log", "log", "log"}));
  clock_.AdvanceNs(60 * kNsPerSecond);
  EXPECT_TRUE(Fetch(*domain).ok());
}

TEST_F(XenDomainTest, ALostLogIsToldAlsoIfTheDeviceModelDoesNotAnswerAtOnce) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  control_->log[kFrames - 1] = false;
  device_model_->error = absl::DeadlineExceededError("300 ms");
  EXPECT_TRUE(absl::IsDeadlineExceeded(Fetch(*domain)));
  device_model_->error = absl::OkStatus();
  EXPECT_TRUE(absl::IsAborted(Fetch(*domain))) << "all pages have to be sent";
  EXPECT_TRUE(Fetch(*domain).ok());
}

TEST_F(XenDomainTest, MemoryThatADeviceHasMovedIsOtherMemory) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  const auto domain = Make();
  EXPECT_TRUE(domain->CheckMemory().ok());
  control_->types[0] = 15;
  const absl::Status moved = domain->CheckMemory();
  EXPECT_TRUE(absl::IsFailedPrecondition(moved));
  EXPECT_THAT(std::string(moved.message()), HasSubstr("frame 0 is somewhere else"));
  control_->types[0] = 0;
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  ASSERT_TRUE(Fetch(*domain).ok());
  control_->types[0] = 15;
  EXPECT_TRUE(absl::IsFailedPrecondition(Fetch(*domain))) << "no epoch goes on with it";
}

TEST_F(XenDomainTest, ALostDeviceModelWantsAnotherProcess) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  const auto domain = Make();
  EXPECT_TRUE(domain->CheckDevices().ok());
  device_model_->state = DeviceModel::State::kLost;
  EXPECT_TRUE(absl::IsFailedPrecondition(domain->CheckDevices()));
}

TEST_F(XenDomainTest, DevicesThatHaveChangedAreNamed) {
  content_->entries["/libxl/5/device/vif/0/mac"] = "aa";
  const auto domain = Make();
  EXPECT_TRUE(domain->CheckDevices().ok());
  content_->entries.clear();
  devices_store_->Announce();
  domain->CheckDevices().IgnoreError();
  const absl::Status changed = domain->CheckDevices();
  EXPECT_TRUE(absl::IsFailedPrecondition(changed));
  EXPECT_THAT(std::string(changed.message()),
              HasSubstr("guest g1: its devices have changed from vif/0=aa to none"));
}

TEST_F(XenDomainTest, TheNextEngineTakesUpWhatADeadOneLeft) {
  control_->logging = true;
  content_->entries[kMarker] = "on";
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  EXPECT_TRUE(control_->logging);
}

TEST_F(XenDomainTest, WhoDoesNotReplicateTurnsOffWhatADeadEngineLeft) {
  for (const bool ours : {true, false}) {
    control_->logging = true;
    if (ours) content_->entries[kMarker] = "on";
    XenDomain::Parts parts;
    parts.info.name = "g1";
    parts.control = control_;
    parts.store = std::make_unique<FakeStore>(content_);
    parts.stop = stop_;
    std::make_unique<XenDomain>(std::move(parts)).reset();
    EXPECT_EQ(control_->logging, !ours) << "somebody else's stays on";
    EXPECT_TRUE(content_->entries.empty());
  }
}

TEST_F(XenDomainTest, SomebodyElsesLogIsRefusedAndNotMarked) {
  control_->logging = true;
  const auto domain = Make();
  EXPECT_TRUE(absl::IsFailedPrecondition(domain->EnableLogDirty()));
  EXPECT_EQ(content_->entries.count(kMarker), 0u);
  EXPECT_TRUE(control_->logging);
}

TEST_F(XenDomainTest, WithoutTheStoreNothingIsTurnedOn) {
  content_->error = absl::UnavailableError("no daemon");
  const auto domain = Make();
  EXPECT_TRUE(absl::IsUnavailable(domain->EnableLogDirty()));
  EXPECT_FALSE(control_->logging);
}

TEST_F(XenDomainTest, ItEndsWithItsObject) {
  {
    const auto domain = Make();
    ASSERT_TRUE(domain->EnableLogDirty().ok());
  }
  EXPECT_FALSE(control_->logging);
  EXPECT_TRUE(content_->entries.empty());
}

TEST_F(XenDomainTest, AChangedPageCountIsNoticedForGood) {
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  EXPECT_TRUE(domain->CheckMemory().ok());
  control_->status.pages = kFrames - 3;
  const absl::Status status = Fetch(*domain);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("from 128 to 125 pages"));
  EXPECT_TRUE(absl::IsFailedPrecondition(domain->CheckMemory()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Fetch(*domain)));
}

TEST_F(XenDomainTest, DirtyPagesAreCountedWithoutAFetch) {
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  ASSERT_TRUE(Fetch(*domain).ok());
  control_->log[9] = control_->log[10] = true;
  EXPECT_EQ(*domain->CountDirty(), 3u) << "and the canary";
  ASSERT_TRUE(Fetch(*domain).ok());
  EXPECT_EQ(bitmap_[0], uint64_t{3} << 9);
  control_->error = absl::NotFoundError("gone");
  EXPECT_TRUE(absl::IsUnavailable(domain->CountDirty().status()));
}

TEST_F(XenDomainTest, AStolenLogIsReported) {
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  ASSERT_TRUE(control_->LogDirtyOff().ok());
  EXPECT_TRUE(absl::IsAborted(Fetch(*domain)));
}

TEST_F(XenDomainTest, AGuestThatIsGoneIsUnavailable) {
  const auto domain = Make();
  ASSERT_TRUE(domain->EnableLogDirty().ok());
  control_->status.dying = true;
  EXPECT_TRUE(absl::IsUnavailable(Fetch(*domain)));
  control_->error = absl::NotFoundError("gone");
  EXPECT_TRUE(absl::IsUnavailable(Fetch(*domain)));
  std::vector<std::byte> room(domain->max_state_bytes());
  EXPECT_TRUE(absl::IsUnavailable(domain->CaptureState(room).status()));
}

TEST_F(XenDomainTest, OnlyACopyThatHasNotRunIsUnpaused) {
  for (const bool waits : {false, true}) {
    waits_ = waits;
    const auto domain = Make();
    control_->status.paused = true;
    EXPECT_TRUE(domain->LetRun().ok());
    EXPECT_EQ(control_->status.paused, !waits) << "an operator's pause is the operator's";
    EXPECT_EQ(content_->entries.count("/local/domain/5/control/feature-suspend"), waits ? 1u : 0u);
    control_->status.paused = true;
    EXPECT_TRUE(domain->LetRun().ok());
    EXPECT_TRUE(control_->status.paused) << "once";
  }
}

TEST_F(XenDomainTest, AGuestThatSomebodyLetsGoOnHasNoCheckpoint) {
  const auto domain = Make();
  std::vector<std::byte> room(domain->max_state_bytes());
  control_->Suspend();
  EXPECT_TRUE(domain->CaptureState(room).ok());
  control_->status.shutdown = false;
  const absl::Status captured = domain->CaptureState(room).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(captured));
  EXPECT_THAT(std::string(captured.message()), HasSubstr("somebody let it go on"));
}

TEST_F(XenDomainTest, EveryEndHasItsName) {
  const auto domain = Make();
  EXPECT_EQ(domain->End(), DomainEnd::kNone);
  control_->End(XenShutdown::kPoweroff);
  EXPECT_EQ(domain->End(), DomainEnd::kShutdown);
  control_->End(XenShutdown::kReboot);
  EXPECT_EQ(domain->End(), DomainEnd::kReboot);
  control_->End(XenShutdown::kCrash);
  EXPECT_EQ(domain->End(), DomainEnd::kCrash);
  control_->End(XenShutdown::kWatchdog);
  EXPECT_EQ(domain->End(), DomainEnd::kCrash);
  control_->error = absl::InternalError("EAGAIN");
  EXPECT_EQ(domain->End(), DomainEnd::kNone) << "not known is no end";
  control_->error = absl::NotFoundError("gone");
  EXPECT_EQ(domain->End(), DomainEnd::kVanished);
}

TEST_F(XenDomainTest, ASuspendThatIsWantedIsNoEnd) {
  const auto domain = Make();
  stop_->wanted = true;
  control_->Suspend();
  EXPECT_EQ(domain->End(), DomainEnd::kNone);
  EXPECT_EQ(control_->resumes, 0);
}

TEST_F(XenDomainTest, AGuestThatNobodyWantsSuspendedGoesOn) {
  const auto domain = Make();
  control_->Suspend();
  EXPECT_EQ(domain->End(), DomainEnd::kNone);
  EXPECT_EQ(control_->resumes, 1);
}

TEST_F(XenDomainTest, WhoeverStandsByNobodysWishGoesOnWithItsDevices) {
  device_model_ = std::make_shared<FakeDeviceModel>();
  device_model_->state = DeviceModel::State::kStopped;
  device_model_->on_call = [&] { EXPECT_EQ(control_->resumes, 0) << "these first"; };
  const auto domain = Make();
  control_->Suspend();
  EXPECT_EQ(domain->End(), DomainEnd::kNone);
  EXPECT_EQ(control_->resumes, 1);
  EXPECT_EQ(device_model_->calls, std::vector<std::string>{"run"});
}

TEST_F(XenDomainTest, DestroysByTheToolstack) {
  const auto domain = Make();
  EXPECT_TRUE(domain->Destroy().ok());
  EXPECT_EQ(control_->destroys, 0);
  EXPECT_TRUE(domain->Destroy().ok()) << "already gone";
}

TEST_F(XenDomainTest, DestroysByTheHypervisorIfTheToolstackDoesNot) {
  destroyed_ = absl::DeadlineExceededError("xl hangs");
  const auto domain = Make();
  EXPECT_EQ(domain->Destroy(), destroyed_) << "its devices may be left";
  EXPECT_EQ(control_->destroys, 1);
  EXPECT_EQ(domain->End(), DomainEnd::kVanished);
}

}  // namespace
}  // namespace haven
