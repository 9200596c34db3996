// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/describe_guest.h"

#include <xen/hvm/params.h>

#include <cstddef>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/description.h"
#include "xen/base/formats_testing.h"
#include "xen/base/interfaces_testing.h"
#include "xen/base/state.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 100 frames: RAM at 0 .. 63 and at 70, rings of the toolstack at 64 and 90.
RamMap Map() {
  RamMap map;
  map.frame_count = 100;
  map.ram = {~uint64_t{0}, uint64_t{1} << 6};
  map.special = {64, 90};
  return map;
}

class DescribeGuestTest : public ::testing::Test {
 protected:
  DescribeGuestTest() {
    control_.context = FakeHvmContext({0, 1});
    control_.policy.cpuid.assign(kXenCpuidLeafBytes, std::byte{1});
    control_.policy.msr.assign(kXenMsrEntryBytes, std::byte{2});
    control_.params[HVM_PARAM_STORE_PFN] = 90;
  }

  absl::StatusOr<XenDescription> Describe(const DeviceModel* model = nullptr) {
    const absl::StatusOr<std::string> text =
        DescribeGuest(control_, Map(), model, {.json = R"({"c_info":{}})", .max_vcpus = 2});
    if (!text.ok()) return text.status();
    return DecodeXenDescription(*text);
  }

  FakeDomainControl control_{100};
};

TEST_F(DescribeGuestTest, HasAllThatACopyIsBuiltOf) {
  const absl::StatusOr<XenDescription> guest = Describe();
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(guest->max_vcpus, 2u);
  EXPECT_EQ(guest->config_json, R"({"c_info":{}})");
  EXPECT_THAT(guest->frames,
              ElementsAre(XenFrameRun{0, 65}, XenFrameRun{70, 1}, XenFrameRun{90, 1}))
      << "the toolstack's pages are made for a copy as well";
  EXPECT_EQ(guest->cpuid_policy, control_.policy.cpuid);
  EXPECT_EQ(guest->msr_policy, control_.policy.msr);
  EXPECT_EQ(guest->device_model, "");
  const auto state = ParseXenState(guest->first_state);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->Param(HVM_PARAM_STORE_PFN), 90u);
  EXPECT_EQ(state->tsc, *control_.Tsc());
}

TEST_F(DescribeGuestTest, ADeviceModelIsAskedForItsVersionAlone) {
  FakeDeviceModel model;
  model.error = absl::InternalError("it runs: nothing is saved");
  const absl::StatusOr<XenDescription> guest = Describe(&model);
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(guest->device_model, model.version());
  EXPECT_EQ(model.state, DeviceModel::State::kRunning);
}

TEST_F(DescribeGuestTest, WhatIsNoDescriptionIsRefused) {
  control_.policy.cpuid.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(Describe().status()));
  control_.error = absl::NotFoundError("gone");
  EXPECT_TRUE(absl::IsNotFound(Describe().status()));
}

TEST(CanaryFrameTest, IsARingForIntrospectionThatIsNoRam) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_PAGING_RING_PFN] = 63;  // RAM.
  control.params[HVM_PARAM_MONITOR_RING_PFN] = 90;
  EXPECT_EQ(*CanaryFrame("g1", control, Map()), 90u);
  control.params[HVM_PARAM_SHARING_RING_PFN] = 64;
  EXPECT_EQ(*CanaryFrame("g1", control, Map()), 64u) << "the first that there is";
}

TEST(CanaryFrameTest, AGuestOfAnotherToolstackHasNone) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;  // Special, but written.
  const absl::Status none = CanaryFrame("g1", control, Map()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(none));
  EXPECT_THAT(std::string(none.message()), HasSubstr("guest g1 can not be protected"));
  control.error = absl::NotFoundError("gone");
  EXPECT_TRUE(absl::IsNotFound(CanaryFrame("g1", control, Map()).status()));
}

}  // namespace
}  // namespace haven
