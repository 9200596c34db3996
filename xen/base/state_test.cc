// SPDX-License-Identifier: Apache-2.0
#include "xen/base/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "xen/base/formats_testing.h"
#include "xen/base/hvm_context.h"

namespace haven {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

TEST(XenStateTest, ReadsBackWhatWasWritten) {
  const std::vector<std::byte> context = FakeHvmContext({0});
  const std::vector<std::byte> bytes = FakeXenState(context, FakeHvmParams(), 123);
  const absl::StatusOr<XenState> state = ParseXenState(bytes);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->tsc,
            (XenTscInfo{.mode = 0, .khz = 2'000'000, .elapsed_ns = 123, .incarnation = 1}));
  EXPECT_TRUE(std::equal(state->hvm_context.begin(), state->hvm_context.end(), context.begin(),
                         context.end()));
  EXPECT_THAT(state->params(), ElementsAreArray(FakeHvmParams()));
  EXPECT_EQ(state->Param(17), 0xfefffu);
  EXPECT_EQ(state->Param(2), 0u);
}

TEST(XenStateTest, ItsSizeStaysBelowTheBoundWithAllParameters) {
  const std::vector<std::byte> context = FakeHvmContext({0});
  std::vector<HvmParam> params;
  for (uint64_t i = 0; i < kMaxHvmParams; ++i) params.push_back({i, i});
  EXPECT_LE(FakeXenState(context, params).size(), MaxXenStateBytes(context.size()));
  EXPECT_TRUE(ParseXenState(FakeXenState(context, params)).ok());
}

TEST(XenStateTest, EveryCutAndEveryTailIsRefused) {
  const std::vector<std::byte> bytes = FakeXenState(FakeHvmContext({0}), FakeHvmParams());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(ParseXenState(std::span(bytes).first(size)).ok()) << size;
  }
  std::vector<std::byte> longer = bytes;
  longer.resize(bytes.size() + 8);
  EXPECT_FALSE(ParseXenState(longer).ok());
}

TEST(XenStateTest, ADeviceModelsStateComesLast) {
  const std::vector<std::byte> three = FakeXenState(FakeHvmContext({0}), FakeHvmParams());
  const std::vector<std::byte> saved = FakeDeviceModelState();
  const std::vector<std::byte> bytes = WithDeviceModel(three, saved);
  EXPECT_LE(bytes.size(), MaxXenStateBytes(FakeHvmContext({0}).size(), true));
  const absl::StatusOr<XenState> state = ParseXenState(bytes);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_THAT(state->device_model, ElementsAreArray(saved));
  EXPECT_THAT(state->params(), ElementsAreArray(FakeHvmParams()));
  EXPECT_TRUE(ParseXenState(three)->device_model.empty());
  // A cut at its beginning leaves a state of a guest without one.
  for (size_t size = three.size() + 1; size < bytes.size(); ++size) {
    EXPECT_FALSE(ParseXenState(std::span(bytes).first(size)).ok()) << size;
  }
  EXPECT_FALSE(ParseXenState(WithDeviceModel(bytes, saved)).ok()) << "twice";
}

TEST(XenStateTest, WhatNoDeviceModelSavesIsRefused) {
  const std::vector<std::byte> three = FakeXenState(FakeHvmContext({0}), FakeHvmParams());
  EXPECT_TRUE(ParseXenState(WithDeviceModel(three, kEmptyDeviceModelState)).ok());
  EXPECT_TRUE(
      ParseXenState(WithDeviceModel(three, FakeDeviceModelState(kMaxDeviceModelBytes))).ok());
  const std::vector<std::byte> saved = FakeDeviceModelState();
  for (const size_t at : {size_t{0}, size_t{3}, size_t{4}, size_t{7}, saved.size() - 1}) {
    std::vector<std::byte> wrong = saved;
    wrong[at] ^= std::byte{1};
    EXPECT_TRUE(absl::IsInvalidArgument(ParseXenState(WithDeviceModel(three, wrong)).status()))
        << at;
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8}}) {
    EXPECT_FALSE(ParseXenState(WithDeviceModel(three, std::span(saved).first(size))).ok()) << size;
  }
  EXPECT_FALSE(
      ParseXenState(WithDeviceModel(three, FakeDeviceModelState(kMaxDeviceModelBytes + 1))).ok());
}

TEST(XenStateTest, AnotherOrderIsRefused) {
  std::vector<std::byte> room(512);
  XenRecordWriter writer(room);
  PutHvmParams(writer, FakeHvmParams());
  PutXenTscInfo(writer, {});
  EXPECT_THAT(std::string(ParseXenState(writer.written()).status().message()),
              HasSubstr("is 0xa, must be 0x8"));
}

// A state whose parameters are these bytes.
absl::Status ParseWithParams(std::span<const std::byte> params) {
  std::vector<std::byte> room(4096);
  XenRecordWriter writer(room);
  PutXenTscInfo(writer, {});
  writer.Put(XenRecordType::kHvmContext, FakeHvmContext({0}));
  writer.Put(XenRecordType::kHvmParams, params);
  return ParseXenState(writer.written()).status();
}

TEST(XenStateTest, CountsThatDoNotFitAreRefused) {
  std::vector<std::byte> params(8 + 16);
  for (const uint32_t count : {0u, 2u, 65u, 0x10000001u, 0xffffffffu}) {
    StoreLe32(params.data(), count);
    EXPECT_TRUE(absl::IsInvalidArgument(ParseWithParams(params))) << count;
  }
  StoreLe32(params.data(), 1);
  EXPECT_TRUE(ParseWithParams(params).ok());
  StoreLe32(params.data() + 4, 1);
  EXPECT_FALSE(ParseWithParams(params).ok()) << "the reserved field";
  EXPECT_FALSE(ParseWithParams(std::vector<std::byte>(7)).ok());
  std::vector<std::byte> many(8 + 16 * (kMaxHvmParams + 1));
  StoreLe32(many.data(), kMaxHvmParams + 1);
  EXPECT_FALSE(ParseWithParams(many).ok());
}

TEST(XenStateTest, AParameterTwiceIsRefused) {
  std::vector<std::byte> params(8 + 32);
  StoreLe32(params.data(), 2);
  EXPECT_THAT(std::string(ParseWithParams(params).message()), HasSubstr("index 0 is there twice"));
}

TEST(HvmContextTest, CountsTheVcpusThatAreOnline) {
  EXPECT_EQ(CheckHvmContext(FakeHvmContext({0, 2}), 3)->vcpus, 2u);
  EXPECT_TRUE(CheckHvmContext(FakeHvmContext({kMaxHvmVcpus - 1}), kMaxHvmVcpus).ok());
}

TEST(HvmContextTest, VcpusThatAreNotTheGuestsAreRefused) {
  EXPECT_FALSE(CheckHvmContext(FakeHvmContext({0, 2}), 2).ok());
  EXPECT_FALSE(CheckHvmContext(FakeHvmContext({1, 1}), 2).ok());
  EXPECT_FALSE(CheckHvmContext(FakeHvmContext({0xffff}), kMaxHvmVcpus).ok());
  EXPECT_THAT(std::string(CheckHvmContext(FakeHvmContext({}), 2).status().message()),
              HasSubstr("no vCPU"));
}

TEST(HvmContextTest, EveryCutAndEveryTailIsRefused) {
  std::vector<std::byte> context = FakeHvmContext({0});
  for (size_t size = 0; size < context.size(); ++size) {
    EXPECT_FALSE(CheckHvmContext(std::span(context).first(size), 1).ok()) << size;
  }
  context.push_back(std::byte{0});
  EXPECT_FALSE(CheckHvmContext(context, 1).ok());
}

TEST(HvmContextTest, OnlyOneRightHeaderAtTheFront) {
  std::vector<std::byte> context = FakeHvmContext({0});
  std::array<std::byte, kEmptyHvmContextBytes> empty;
  for (const size_t at : {0u, 2u, 4u, 8u, 12u}) {  // Code, instance, length, magic, version.
    std::vector<std::byte> wrong = context;
    wrong[at] ^= std::byte{4};
    EXPECT_FALSE(CheckHvmContext(wrong, 1).ok()) << at;
    EXPECT_FALSE(EmptyHvmContext(wrong, empty).ok()) << at;
  }
  std::vector<std::byte> twice(context.begin(), context.begin() + 32);
  twice.insert(twice.end(), context.begin(), context.end());
  EXPECT_THAT(std::string(CheckHvmContext(twice, 1).status().message()),
              HasSubstr("second header"));
}

TEST(HvmContextTest, AnEmptyContextIsTheHeaderAndTheEnd) {
  const std::vector<std::byte> context = FakeHvmContext({0, 1});
  std::array<std::byte, kEmptyHvmContextBytes> empty;
  empty.fill(std::byte{0xee});
  ASSERT_TRUE(EmptyHvmContext(context, empty).ok());
  EXPECT_TRUE(std::equal(empty.begin(), empty.begin() + 32, context.begin()));
  EXPECT_TRUE(
      std::all_of(empty.begin() + 32, empty.end(), [](std::byte b) { return b == std::byte{0}; }));
}

}  // namespace
}  // namespace haven
