// SPDX-License-Identifier: Apache-2.0
#include "xen/base/description.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/replica/control_message.h"
#include "xen/base/formats_testing.h"
#include "xen/base/hvm_context.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

std::string Encoded() { return *EncodeXenDescription(FakeXenDescription()); }

TEST(XenDescriptionTest, ReadsBackWhatWasWrittenButForTheVcpus) {
  const XenDescription original = FakeXenDescription();
  const absl::StatusOr<XenDescription> decoded = DecodeXenDescription(Encoded());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->max_vcpus, original.max_vcpus);
  EXPECT_EQ(decoded->frames, original.frames);
  EXPECT_EQ(decoded->config_json, original.config_json);
  EXPECT_EQ(decoded->cpuid_policy, original.cpuid_policy);
  EXPECT_EQ(decoded->msr_policy, original.msr_policy);
  const absl::StatusOr<XenState> state = ParseXenState(decoded->first_state);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->hvm_context.size(), kEmptyHvmContextBytes);
  EXPECT_EQ(state->Param(17), 0xfefffu);
  // Nothing is lost by doing it again.
  EXPECT_EQ(*EncodeXenDescription(*decoded), Encoded());
}

TEST(XenDescriptionTest, BytesAreAsDocumented) {
  const std::string bytes = Encoded();
  EXPECT_EQ(bytes.substr(0, 4), "xen:");
  EXPECT_EQ(bytes.substr(4, 16), std::string("\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(20 + 16, 16), std::string("\xfc\xef\x0f\0\0\0\0\0\1\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(20 + 48, 4), std::string("\x27\0\0\0", 4));
  EXPECT_EQ(bytes.substr(20 + 52, 0x27), FakeXenDescription().config_json);
}

TEST(XenDescriptionTest, OthersAreToldFromIt) {
  EXPECT_TRUE(IsXenDescription(Encoded()));
  EXPECT_FALSE(IsXenDescription("synthetic:name=a"));
  EXPECT_FALSE(DecodeXenDescription("synthetic:name=a").ok());
  EXPECT_FALSE(DecodeXenDescription("").ok());
}

TEST(XenDescriptionTest, EveryCutAndEveryTailIsRefused) {
  const std::string bytes = Encoded();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeXenDescription(bytes.substr(0, size)).status()))
        << size;
  }
  EXPECT_FALSE(DecodeXenDescription(bytes + std::string(8, '\0')).ok());
  EXPECT_FALSE(DecodeXenDescription(bytes + std::string(kMaxConfigBytes, '\0')).ok());
}

TEST(XenDescriptionTest, AnotherVersionSaysWhatToDo) {
  std::string bytes = Encoded();
  bytes[4] = 3;
  EXPECT_THAT(std::string(DecodeXenDescription(bytes).status().message()),
              HasSubstr("version is 3, must be 1 or 2: use the same haven-engine on both hosts"));
}

TEST(XenDescriptionTest, AGuestWithADeviceModelHasItsVersionAtTheEnd) {
  XenDescription original = FakeXenDescription();
  original.device_model = "7.2.22 Debian";
  const absl::StatusOr<std::string> bytes = EncodeXenDescription(original);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(bytes->substr(4, 4), std::string("\2\0\0\0", 4));
  EXPECT_EQ(bytes->substr(8), Encoded().substr(8) + std::string("\x0d\0\0\0", 4) + "7.2.22 Debian");
  EXPECT_EQ(DecodeXenDescription(*bytes)->device_model, "7.2.22 Debian");
  for (size_t size = 0; size < bytes->size(); ++size) {
    EXPECT_FALSE(DecodeXenDescription(bytes->substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeXenDescription(*bytes + " ").ok());
  std::string empty = Encoded() + std::string(4, '\0');
  empty[4] = 2;
  EXPECT_FALSE(DecodeXenDescription(empty).ok()) << "version 2 has one";
  std::string unprintable = *bytes;
  unprintable.back() = '\n';
  EXPECT_FALSE(DecodeXenDescription(unprintable).ok());
}

struct BadCase {
  const char* what;
  std::function<void(XenDescription&)> spoil;
};

TEST(XenDescriptionTest, FieldsThatBreakTheirRulesAreNotWritten) {
  const uint64_t all = ~uint64_t{0};
  const std::vector<BadCase> cases = {
      {"no vCPUs", [](auto& d) { d.max_vcpus = 0; }},
      {"too many vCPUs", [](auto& d) { d.max_vcpus = kMaxXenVcpus + 1; }},
      {"no frames", [](auto& d) { d.frames.clear(); }},
      {"an empty run", [](auto& d) { d.frames[1].pages = 0; }},
      {"runs that touch", [](auto& d) { d.frames[1].first_gfn = 5; }},
      {"runs that overlap", [](auto& d) { d.frames[1].first_gfn = 2; }},
      {"runs that descend", [](auto& d) { std::swap(d.frames[0], d.frames[1]); }},
      {"a run that wraps", [=](auto& d) { d.frames[2].pages = all; }},
      {"a frame too high", [](auto& d) { d.frames[2].first_gfn = kMaxXenGfn + 1; }},
      {"a run that ends too high",
       [](auto& d) {
         d.frames[2] = {kMaxXenGfn, 2};
       }},
      {"too many pages in all",
       [](auto& d) {
         d.frames = {{0, kMaxXenPages}, {1ULL << 33, 1}};
       }},
      {"too many runs",
       [](auto& d) {
         d.frames.clear();
         for (uint64_t i = 0; i <= kMaxXenFrameRuns; ++i) d.frames.push_back({2 * i, 1});
       }},
      {"no JSON", [](auto& d) { d.config_json.clear(); }},
      {"too much JSON", [](auto& d) { d.config_json.assign(kMaxXenConfigJsonBytes + 1, ' '); }},
      {"no CPUID policy", [](auto& d) { d.cpuid_policy.clear(); }},
      {"half a CPUID leaf", [](auto& d) { d.cpuid_policy.resize(kXenCpuidLeafBytes / 2); }},
      {"half an MSR", [](auto& d) { d.msr_policy.resize(kXenMsrEntryBytes / 2); }},
      {"a large MSR policy", [](auto& d) { d.msr_policy.resize(2 * kMaxXenPolicyBytes); }},
      {"no state", [](auto& d) { d.first_state.clear(); }},
      {"a long version",
       [](auto& d) { d.device_model.assign(kMaxDeviceModelVersionBytes + 1, '7'); }},
      {"a version of two lines", [](auto& d) { d.device_model = "7\n2"; }},
  };
  for (const BadCase& bad : cases) {
    XenDescription description = FakeXenDescription();
    bad.spoil(description);
    EXPECT_TRUE(absl::IsInvalidArgument(EncodeXenDescription(description).status())) << bad.what;
  }
}

TEST(XenDescriptionTest, TheWholeFitsTheHandshakeOrIsNotWritten) {
  XenDescription description = FakeXenDescription();
  description.config_json.assign(kMaxXenConfigJsonBytes, ' ');
  description.frames.clear();
  for (uint64_t i = 0; i < kMaxXenFrameRuns; ++i) description.frames.push_back({2 * i, 1});
  EXPECT_THAT(std::string(EncodeXenDescription(description).status().message()),
              HasSubstr("size is"));
  description.frames.resize(kMaxXenFrameRuns / 2);
  EXPECT_TRUE(EncodeXenDescription(description).ok());
}

TEST(XenDescriptionTest, HostileCountsAreRefusedBeforeAnythingIsTaken) {
  const size_t run_count_at = 12;
  const size_t json_at = 20 + 48;
  for (const size_t at : {run_count_at, run_count_at + 4, json_at}) {
    for (const uint32_t value : {0x7fffffffu, 0xffffffffu}) {
      std::string bytes = Encoded();
      StoreLe32(reinterpret_cast<uint8_t*>(bytes.data() + at), value);
      EXPECT_TRUE(absl::IsInvalidArgument(DecodeXenDescription(bytes).status())) << at;
    }
  }
}

}  // namespace
}  // namespace haven
