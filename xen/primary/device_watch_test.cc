// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/device_watch.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

constexpr char kVif0[] = "/libxl/5/device/vif/0/mac";
constexpr char kVif1[] = "/libxl/5/device/vif/1/mac";
constexpr char kDisk[] = "/libxl/5/device/vbd/51712/params";

class DeviceWatchTest : public testing::Test {
 protected:
  DeviceWatchTest() { content_->entries[kVif0] = "aa"; }

  void Watch() {
    auto store = std::make_unique<FakeStore>(content_);
    store_ = store.get();
    auto watch = DeviceWatch::Create(std::move(store), patient_, 5);
    HAVEN_CHECK_OK(watch.status());
    watch_ = *std::move(watch);
  }
  // After the store has told of something, and everything was asked.
  std::string Changed() {
    store_->Announce();
    for (int i = 0; i < 10; ++i) watch_->Changed();
    return watch_->Changed();
  }

  std::shared_ptr<FakeStoreContent> content_ = std::make_shared<FakeStoreContent>();
  FakeStore patient_{content_};
  FakeStore* store_ = nullptr;
  std::unique_ptr<DeviceWatch> watch_;
};

TEST_F(DeviceWatchTest, DevicesThatComeAndGo) {
  Watch();
  EXPECT_EQ(Changed(), "");
  content_->entries[kVif1] = "bb";
  EXPECT_EQ(Changed(), "vif/0=aa to vif/0=aa vif/1=bb");
  content_->entries[kDisk] = "x";
  EXPECT_EQ(Changed(), "vif/0=aa to vbd/51712 vif/0=aa vif/1=bb");
  content_->entries.erase(kVif1);
  content_->entries.erase(kDisk);
  EXPECT_EQ(Changed(), "");
  content_->entries.clear();
  EXPECT_EQ(Changed(), "vif/0=aa to none");
}

TEST_F(DeviceWatchTest, ANicThatWasReplaced) {
  Watch();
  content_->entries[kVif0] = "cc";
  EXPECT_EQ(Changed(), "vif/0=aa to vif/0=cc");
}

TEST_F(DeviceWatchTest, AGuestWithoutDevices) {
  content_->entries.clear();
  Watch();
  EXPECT_EQ(Changed(), "");
  content_->entries[kVif0] = "aa";
  EXPECT_EQ(Changed(), "none to vif/0=aa");
}

TEST_F(DeviceWatchTest, WithoutNewsNothingIsAsked) {
  Watch();
  content_->entries[kVif1] = "bb";
  EXPECT_EQ(watch_->Changed(), "");
  EXPECT_EQ(watch_->Changed(), "");
}

TEST_F(DeviceWatchTest, WhatTheStoreDoesNotAnswerIsAskedAgain) {
  Watch();
  content_->entries[kVif1] = "bb";
  content_->error = absl::DeadlineExceededError("slow");
  EXPECT_EQ(Changed(), "");
  content_->error = absl::OkStatus();
  for (int i = 0; i < 10; ++i) watch_->Changed();
  EXPECT_EQ(watch_->Changed(), "vif/0=aa to vif/0=aa vif/1=bb");
}

TEST_F(DeviceWatchTest, AStoreThatDoesNotAnswerAtFirst) {
  content_->error = absl::DeadlineExceededError("slow");
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      DeviceWatch::Create(std::make_unique<FakeStore>(content_), patient_, 5).status()));
}

}  // namespace
}  // namespace haven
