// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/spec.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

TEST(SyntheticSpecTest, TheWordAloneIsAGuestOfDefaults) {
  for (const char* text : {"synthetic", "synthetic:"}) {
    const absl::StatusOr<SyntheticSpec> spec = ParseSyntheticSpec(text);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(*spec, SyntheticSpec());
  }
}

TEST(SyntheticSpecTest, EveryFieldIsRead) {
  const absl::StatusOr<SyntheticSpec> spec = ParseSyntheticSpec(
      "synthetic:mem=1G,dirty=20K,block=512,locality=0.95,hot=0.05,fill=1,output=250,packet=1500,"
      "gate=10M,vcpus=3,seed=18446744073709551615,name=web-1.a_B,log=/tmp/a b=c,verify=0");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->mem_bytes, uint64_t{1} << 30);
  EXPECT_EQ(spec->dirty_per_second, 20u << 10);
  EXPECT_EQ(spec->block_bytes, 512u);
  EXPECT_EQ(spec->locality_ppm, 950'000u);
  EXPECT_EQ(spec->hot_ppm, 50'000u);
  EXPECT_EQ(spec->fill_ppm, kPpm);
  EXPECT_EQ(spec->output_per_second, 250u);
  EXPECT_EQ(spec->packet_bytes, 1500u);
  EXPECT_EQ(spec->gate_bytes, 10u << 20);
  EXPECT_EQ(spec->vcpus, 3u);
  EXPECT_EQ(spec->seed, UINT64_MAX);
  EXPECT_EQ(spec->name, "web-1.a_B");
  EXPECT_EQ(spec->log, "/tmp/a b=c");
  EXPECT_FALSE(spec->verify);
}

TEST(SyntheticSpecTest, TheTextFormIsReadBackUnchanged) {
  for (const char* text :
       {"synthetic", "synthetic:mem=1G,gate=0,dirty=0,output=0,fill=0,hot=0,locality=0",
        "synthetic:mem=1052672,gate=1001,packet=64,locality=0.123457,hot=0.000001,fill=0.999999",
        "synthetic:log=unix:/run/x,verify=0,vcpus=4,block=64,seed=0,name=x"}) {
    const absl::StatusOr<SyntheticSpec> spec = ParseSyntheticSpec(text);
    ASSERT_TRUE(spec.ok()) << text << ": " << spec.status();
    const absl::StatusOr<SyntheticSpec> again = ParseSyntheticSpec(FormatSyntheticSpec(*spec));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, *spec) << FormatSyntheticSpec(*spec);
  }
}

struct Garbage {
  std::string text;
  // Part of the message that tells the operator what is wrong.
  const char* said;
};

TEST(SyntheticSpecTest, GarbageIsRefusedWithTheKeyAndWhatIsAllowed) {
  const Garbage table[] = {
      {"", "not a synthetic guest"},
      {"xen:web", "not a synthetic guest"},
      {"syntheticmem=1G", "not a synthetic guest"},
      {"synthetic:mem", "'mem' is not key=value"},
      {"synthetic:mem=1G,", "'' is not key=value"},
      {"synthetic:,", "'' is not key=value"},
      {"synthetic:memory=1G", "unknown key 'memory'; the keys are name, mem"},
      {"synthetic:mem=1G,mem=2G", "key 'mem' is given twice"},
      {"synthetic:mem=", "mem=: allowed is a whole number"},
      {"synthetic:mem=K", "mem=K"},
      {"synthetic:mem=1g", "mem=1g"},
      {"synthetic:mem=1GB", "mem=1GB"},
      {"synthetic:mem= 1G", "mem= 1G"},
      {"synthetic:mem=-1G", "mem=-1G"},
      {"synthetic:mem=+1G", "mem=+1G"},
      {"synthetic:mem=1.5G", "mem=1.5G"},
      {"synthetic:mem=0", "mem=0"},
      {"synthetic:mem=1023K", "mem=1023K"},
      {"synthetic:mem=1025G", "mem=1025G"},
      {"synthetic:mem=18446744073709551616", "mem=18446744073709551616"},
      {"synthetic:mem=18014398509481985K", "mem=18014398509481985K"},
      {"synthetic:mem=1048577", "a multiple of 4K"},
      {"synthetic:block=96", "a power of two"},
      {"synthetic:block=32", "block=32"},
      {"synthetic:block=8K", "block=8K"},
      {"synthetic:vcpus=0", "vcpus=0"},
      {"synthetic:vcpus=5", "vcpus=5"},
      {"synthetic:dirty=1000000001", "dirty=1000000001"},
      {"synthetic:locality=1.01", "a fraction from 0 to 1"},
      {"synthetic:locality=-0.1", "a fraction from 0 to 1"},
      {"synthetic:locality=nan", "a fraction from 0 to 1"},
      {"synthetic:hot=much", "a fraction from 0 to 1"},
      {"synthetic:packet=63", "packet=63"},
      {"synthetic:gate=100G,packet=64", "packets of packet=64"},
      {"synthetic:verify=yes", "0 or 1"},
      {"synthetic:name=", "1 to 63 of"},
      {"synthetic:name=.x", "the first one no dot"},
      {"synthetic:name=a/b", "name=a/b"},
      {"synthetic:name=" + std::string(64, 'n'), "1 to 63 of"},
      {"synthetic:log=a\nb", "without control characters"},
      {"synthetic:log=unix:", "unix:PATH"},
      {"synthetic:log=" + std::string(301, 'p'), "PATH or unix:PATH"},
      {"synthetic:log=" + std::string(700, 'p'), "at most 640"},
  };
  for (const Garbage& garbage : table) {
    const absl::StatusOr<SyntheticSpec> spec = ParseSyntheticSpec(garbage.text);
    ASSERT_FALSE(spec.ok()) << garbage.text;
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(spec.status().message()), HasSubstr(garbage.said)) << garbage.text;
  }
}

TEST(SyntheticSpecTest, OnlyWhatBelongsToTheHostCanBeReplaced) {
  SyntheticSpec spec;
  EXPECT_TRUE(OverrideSyntheticSpec("", spec).ok());
  EXPECT_EQ(spec, SyntheticSpec());
  ASSERT_TRUE(OverrideSyntheticSpec("log=/b,verify=0", spec).ok());
  EXPECT_EQ(spec.log, "/b");
  EXPECT_FALSE(spec.verify);

  const SyntheticSpec before = spec;
  for (const char* text :
       {"mem=2G", "log=/c,seed=2", "log", "log=/c,log=/d", "verify=1,verify=2"}) {
    const absl::Status status = OverrideSyntheticSpec(text, spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(spec, before) << text;
  }
}

TEST(SyntheticSpecTest, TheContentKeyTellsGuestsApartAndIgnoresWhatDoesNotShapeThem) {
  std::set<uint64_t> keys;
  std::set<std::string> uuids;
  const char* const different[] = {
      "synthetic",         "synthetic:seed=2",   "synthetic:name=b",
      "synthetic:mem=1G",  "synthetic:vcpus=2",  "synthetic:block=64",
      "synthetic:hot=0.2", "synthetic:fill=0.1", "synthetic:locality=0",
  };
  for (const char* text : different) {
    keys.insert(SyntheticContentKey(*ParseSyntheticSpec(text)));
    uuids.insert(SyntheticUuid(*ParseSyntheticSpec(text)));
  }
  EXPECT_EQ(keys.size(), std::size(different));
  EXPECT_EQ(uuids.size(), std::size(different));
  EXPECT_EQ(SyntheticContentKey(*ParseSyntheticSpec("synthetic:dirty=1,output=2,log=/x,gate=1M")),
            SyntheticContentKey(SyntheticSpec()));
  EXPECT_THAT(SyntheticUuid(SyntheticSpec()),
              ::testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                                      "[0-9a-f]{12}"));
}

}  // namespace
}  // namespace haven
