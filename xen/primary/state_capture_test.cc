// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/state_capture.h"

#include <xen/hvm/params.h>

#include <vector>

#include "gtest/gtest.h"
#include "xen/base/formats_testing.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

TEST(StateCapture, WritesTheThreeRecords) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;
  control.params[HVM_PARAM_X87_FIP_WIDTH] = 4;
  auto capture = StateCapture::Create(control, nullptr);
  ASSERT_TRUE(capture.ok()) << capture.status();
  std::vector<std::byte> room(capture->max_bytes());
  const auto bytes = capture->Capture(room);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto state = ParseXenState(std::span(room).first(*bytes));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->tsc, *control.Tsc());
  EXPECT_TRUE(std::equal(state->hvm_context.begin(), state->hvm_context.end(),
                         control.context.begin(), control.context.end()));
  EXPECT_EQ(state->param_count, 2u) << "those that are 0 are left out";
  EXPECT_EQ(state->Param(HVM_PARAM_STORE_PFN), 90u);
  EXPECT_EQ(state->Param(HVM_PARAM_X87_FIP_WIDTH), 4u);
}

TEST(StateCapture, TheDeviceModelsComesLast) {
  FakeDomainControl control(100);
  FakeDeviceModel model;
  model.saved = FakeDeviceModelState();
  auto capture = StateCapture::Create(control, &model);
  ASSERT_TRUE(capture.ok()) << capture.status();
  EXPECT_GT(capture->max_bytes(), kMaxDeviceModelBytes);
  std::vector<std::byte> room(capture->max_bytes());
  model.Stop();
  const auto bytes = capture->Capture(room);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto state = ParseXenState(std::span(room).first(*bytes));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_TRUE(std::equal(state->device_model.begin(), state->device_model.end(),
                         model.saved.begin(), model.saved.end()));
  EXPECT_TRUE(absl::IsResourceExhausted(
      capture->Capture(std::span(room).first(*bytes - model.saved.size())).status()));
  model.error = absl::UnavailableError("it is gone");
  EXPECT_TRUE(absl::IsUnavailable(capture->Capture(room).status()));
}

TEST(StateCapture, WhatTheGuestSetsIsReadEachTime) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;
  auto capture = StateCapture::Create(control, nullptr);
  ASSERT_TRUE(capture.ok()) << capture.status();
  std::vector<std::byte> room(capture->max_bytes());
  ASSERT_TRUE(capture->Capture(room).ok());
  for (const uint32_t index : {HVM_PARAM_VM86_TSS_SIZED, HVM_PARAM_ACPI_IOPORTS_LOCATION,
                               HVM_PARAM_VM_GENERATION_ID_ADDR, HVM_PARAM_X87_FIP_WIDTH}) {
    control.params[index] = 1000 + index;
  }
  const auto bytes = capture->Capture(room);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto state = ParseXenState(std::span(room).first(*bytes));
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->param_count, 5u);
  EXPECT_EQ(state->Param(HVM_PARAM_VM_GENERATION_ID_ADDR), 1000u + HVM_PARAM_VM_GENERATION_ID_ADDR);
}

TEST(StateCapture, EveryRoomThatIsTooSmallIsRefused) {
  FakeDomainControl control(100);
  control.params[HVM_PARAM_STORE_PFN] = 90;
  auto capture = StateCapture::Create(control, nullptr);
  ASSERT_TRUE(capture.ok()) << capture.status();
  std::vector<std::byte> room(capture->max_bytes());
  const auto needed = capture->Capture(room);
  ASSERT_TRUE(needed.ok());
  for (size_t bytes = 0; bytes < *needed; ++bytes) {
    EXPECT_TRUE(absl::IsResourceExhausted(capture->Capture(std::span(room).first(bytes)).status()))
        << bytes;
  }
  EXPECT_TRUE(capture->Capture(std::span(room).first(*needed)).ok());
}

TEST(StateCapture, AGoneDomainIsReported) {
  FakeDomainControl control(100);
  auto capture = StateCapture::Create(control, nullptr);
  ASSERT_TRUE(capture.ok());
  control.error = absl::NotFoundError("gone");
  std::vector<std::byte> room(capture->max_bytes());
  EXPECT_TRUE(absl::IsNotFound(capture->Capture(room).status()));
  EXPECT_TRUE(absl::IsNotFound(StateCapture::Create(control, nullptr).status()));
}

}  // namespace
}  // namespace haven
