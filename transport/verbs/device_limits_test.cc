// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/string_view.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

// What soft-RoCE of Linux 6.1 says of itself.
DeviceFacts SoftRoce() {
  DeviceFacts facts;
  facts.name = "rxe0";
  facts.port = 1;
  facts.transport = IBV_TRANSPORT_IB;
  facts.device.max_qp_wr = 1 << 20;
  facts.device.max_cqe = 32767;
  facts.device.max_sge = 32;
  facts.device.max_qp_rd_atom = 128;
  facts.device.max_qp_init_rd_atom = 128;
  facts.device.max_mr_size = UINT64_MAX;
  facts.device.max_mr = 524'287;
  facts.attributes.state = IBV_PORT_ACTIVE;
  facts.attributes.max_msg_sz = 8 << 20;
  facts.attributes.active_mtu = IBV_MTU_4096;
  return facts;
}

void ExpectRefused(const DeviceFacts& facts, absl::string_view why) {
  const absl::StatusOr<DeviceLimits> limits = LimitsOf(facts);
  EXPECT_TRUE(absl::IsFailedPrecondition(limits.status())) << limits.status();
  EXPECT_THAT(std::string(limits.status().message()), HasSubstr(std::string(why)));
  EXPECT_THAT(std::string(limits.status().message()), HasSubstr("rxe0"));
}

TEST(DeviceLimits, WhatIsWantedWhereTheDeviceHasMore) {
  const absl::StatusOr<DeviceLimits> limits = LimitsOf(SoftRoce());
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_EQ(limits->send_depth, kWantedSendDepth);
  EXPECT_EQ(limits->receive_depth, kWantedReceiveDepth);
  EXPECT_EQ(limits->read_depth, kWantedReadDepth);
  EXPECT_EQ(limits->write_bytes, kWantedWriteBytes);
  EXPECT_EQ(limits->mtu_bytes, 4096u);
}

TEST(DeviceLimits, WhatTheDeviceHasWhereItIsLess) {
  DeviceFacts facts = SoftRoce();
  facts.device.max_qp_wr = 100;
  facts.device.max_qp_rd_atom = 2;
  facts.attributes.max_msg_sz = 70'000;
  facts.attributes.active_mtu = IBV_MTU_1024;
  const absl::StatusOr<DeviceLimits> limits = LimitsOf(facts);
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_EQ(limits->send_depth, 100u);
  EXPECT_EQ(limits->receive_depth, 100u);
  EXPECT_EQ(limits->read_depth, 2u);
  EXPECT_EQ(limits->write_bytes, 69'632u) << "whole pages";
  EXPECT_EQ(limits->mtu_bytes, 1024u);
}

TEST(DeviceLimits, TheCompletionQueueNeverOverruns) {
  DeviceFacts facts = SoftRoce();
  for (const int cqe : {128, 129, 200, 1000, 1535, 1536, 1537, 32'767}) {
    facts.device.max_cqe = cqe;
    const absl::StatusOr<DeviceLimits> limits = LimitsOf(facts);
    ASSERT_TRUE(limits.ok()) << limits.status();
    EXPECT_LE(limits->completion_depth, static_cast<uint32_t>(cqe));
    EXPECT_EQ(limits->completion_depth, limits->send_depth + limits->receive_depth);
    EXPECT_GE(limits->send_depth, kLeastQueueDepth);
    EXPECT_GE(limits->receive_depth, kLeastQueueDepth);
  }
}

TEST(DeviceLimits, ADeviceThatRefusesSoMuchInlineIsAskedForLess) {
  EXPECT_EQ(LimitsOf(SoftRoce())->inline_bytes, kWantedInlineBytes);
  std::vector<uint32_t> asked = {kWantedInlineBytes};
  while (asked.back() != 0) asked.push_back(LessInlineBytes(asked.back()));
  EXPECT_EQ(asked, (std::vector<uint32_t>{384, 192, 64, 0})) << "all but 0 take a heartbeat";
}

TEST(DeviceLimits, IwarpIsRefusedWithTheReason) {
  DeviceFacts facts = SoftRoce();
  facts.transport = IBV_TRANSPORT_IWARP;
  ExpectRefused(facts, "immediate");
}

TEST(DeviceLimits, OtherTransportsAreRefused) {
  DeviceFacts facts = SoftRoce();
  facts.transport = IBV_TRANSPORT_USNIC;
  ExpectRefused(facts, "neither");
}

TEST(DeviceLimits, MissingFeaturesAreRefused) {
  DeviceFacts facts = SoftRoce();
  facts.device.max_qp_rd_atom = 0;
  ExpectRefused(facts, "READ");
  facts = SoftRoce();
  facts.device.max_qp_wr = 63;
  ExpectRefused(facts, "63");
  facts = SoftRoce();
  facts.device.max_cqe = -1;
  ExpectRefused(facts, "queues");
  facts = SoftRoce();
  facts.attributes.max_msg_sz = 4096;
  ExpectRefused(facts, "4096");
}

TEST(DeviceLimits, APortThatIsDownIsUnavailable) {
  DeviceFacts facts = SoftRoce();
  facts.attributes.state = IBV_PORT_DOWN;
  const absl::Status status = LimitsOf(facts).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

}  // namespace
}  // namespace haven
