// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/build_xen_replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "engine/base/clock.h"
#include "xen/backup/xen_replica_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

using BuildXenReplicaTest = XenReplicaTest;

TEST_F(BuildXenReplicaTest, TheToolstackGetsTheWholeStream) {
  const std::unique_ptr<XenReplica> replica = Good();
  EXPECT_EQ(replica->domid(), FakeHostWorld::kDomid);
  EXPECT_EQ(ReadFolderFile("stream"), Stream());
  EXPECT_FALSE(world_->running);
}

TEST_F(BuildXenReplicaTest, ManyFramesAreMoreThanAPipeHolds) {
  description_.frames = {{0, 100'000}, {0xfeffc, 1}, {0xfefff, 1}};
  hello_.ram = {{0, 100'000}};
  EXPECT_TRUE(Build("good").ok());
  EXPECT_EQ(ReadFolderFile("stream"), Stream());
}

TEST_F(BuildXenReplicaTest, ItHasNoRamWhereTheDescriptionHasNoFrame) {
  for (const std::vector<RamRun>& ram : {std::vector<RamRun>{{0, 6}},
                                         {{3, 3}},
                                         {{6, 1}},
                                         {{0, 5}, {0xfeffb, 2}},
                                         {{0xfefff, 1}, {0xff000, 1}}}) {
    hello_.ram = ram;
    const absl::Status built = Build("good").status();
    EXPECT_TRUE(absl::IsInvalidArgument(built)) << ram[0].first_gfn;
    EXPECT_THAT(std::string(built.message()), HasSubstr("said to be RAM"));
  }
  hello_.ram = {{0, 2}, {2, 3}, {0xfeffc, 1}};
  EXPECT_TRUE(Build("good").ok());
}

TEST_F(BuildXenReplicaTest, HugeFrameCountsAreRefused) {
  hello_.page_count = uint64_t{1} << 60;
  EXPECT_TRUE(absl::IsInvalidArgument(Build("good").status()));
}

TEST_F(BuildXenReplicaTest, AGuestOfAnotherTypeIsRefused) {
  description_.config_json = R"({"c_info":{"type":"pv","name":"web1"}})";
  EXPECT_TRUE(absl::IsUnimplemented(Build("good").status()));
}

TEST_F(BuildXenReplicaTest, AMissingBridgeIsNamedWithTheRemedy) {
  world_->bridges.clear();
  const absl::Status built = Build("good").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("there is no bridge br0"));
  EXPECT_THAT(std::string(built.message()), HasSubstr("bridge:br0=NAME"));
  world_->bridges = {"br9"};
  options_.bridges = {{"br0", "br9"}};
  EXPECT_TRUE(Build("good").ok());
}

TEST_F(BuildXenReplicaTest, ACopyThatWaitsAlreadyIsNamedWithTheRemedy) {
  std::ofstream(world_->made).put('x');
  const absl::Status built = Build("good").status();
  EXPECT_TRUE(absl::IsAlreadyExists(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("`xl destroy 7`"));
}

TEST_F(BuildXenReplicaTest, ItsNameIsTheOneOfThisHost) {
  options_.name = "web1-b";
  world_->waiting_name = "web1-b--incoming";
  EXPECT_TRUE(Build("good").ok());
}

TEST_F(BuildXenReplicaTest, AToolstackThatFailsIsQuoted) {
  const absl::Status built = Build("dies-in-stream").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("copy of guest web1 can not be built"));
  EXPECT_THAT(std::string(built.message()), HasSubstr("failed to free memory for the domain"));
  EXPECT_THAT(std::string(Build("dies-at-once").status().message()), HasSubstr("cannot open xen"));
}

TEST_F(BuildXenReplicaTest, TooLittleMemoryIsTheCauseIfThereIsTooLittle) {
  world_->free_bytes = 6 * 4096;
  const absl::Status built = Build("dies-in-stream").status();
  EXPECT_TRUE(absl::IsResourceExhausted(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("this host has 0 MiB free"));
  // It is the toolstack's to judge: it may get memory from elsewhere.
  EXPECT_TRUE(Build("good").ok());
}

TEST_F(BuildXenReplicaTest, RubbishAndAWrongReadyAreRefused) {
  EXPECT_THAT(std::string(Build("rubbish").status().message()), HasSubstr("says \"b"));
  EXPECT_THAT(std::string(Build("not-ready").status().message()),
              HasSubstr("instead of \"domain received, ready"));
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(BuildXenReplicaTest, TheDeadlineHoldsWhereverItHangs) {
  options_.build_timeout = absl::Milliseconds(300);
  options_.destroy_timeout = absl::Milliseconds(300);
  // More than the pipe holds.
  description_.frames = {{0, 100'000}, {0xfeffc, 1}, {0xfefff, 1}};
  for (const char* const manner : {"silent", "hangs-in-stream", "never-ready"}) {
    std::filesystem::remove(world_->made);
    std::filesystem::remove(world_->unmade);
    world_->destroyed = false;
    const int64_t start_ns = SystemClock::Get().NowNs();
    const absl::Status built = Build(manner).status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(built)) << manner << ": " << built;
    EXPECT_LT(SystemClock::Get().NowNs() - start_ns, 15 * kNsPerSecond) << manner;
  }
}

TEST_F(BuildXenReplicaTest, WhatAHangingToolstackHasMadeIsDestroyed) {
  options_.build_timeout = absl::Milliseconds(300);
  options_.destroy_timeout = absl::Milliseconds(300);
  description_.frames = {{0, 100'000}, {0xfeffc, 1}, {0xfefff, 1}};
  EXPECT_FALSE(Build("hangs-in-stream").ok());
  EXPECT_TRUE(world_->destroyed || std::filesystem::exists(world_->unmade));
}

TEST_F(BuildXenReplicaTest, WhatAKilledToolstackHasMadeIsDestroyedByCommand) {
  EXPECT_FALSE(Build("killed-in-stream").ok());
  EXPECT_EQ(ReadFolderFile("destroyed-by-command"), "7\n");
  EXPECT_TRUE(world_->Calls().empty());
}

TEST_F(BuildXenReplicaTest, ADomainThatIsNotFoundIsTakenDownByItsToolstack) {
  world_->waiting_name = "another";
  EXPECT_TRUE(absl::IsFailedPrecondition(Build("good").status()));
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(BuildXenReplicaTest, AToolstackThatIsNotThereIsNamed) {
  hello_.config = *EncodeXenDescription(description_);
  options_.toolstack = {"no-such-xl"};
  const absl::Status built =
      BuildXenReplica(std::make_unique<FakeReplicaHost>(world_), hello_, options_).status();
  EXPECT_TRUE(absl::IsUnavailable(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("no-such-xl"));
}

TEST_F(BuildXenReplicaTest, AFrameThatCanNotBeMappedEndsItAndTheCopy) {
  world_->unmappable = {{4, ENOENT}};
  const absl::Status built = Build("good").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(built));
  EXPECT_THAT(std::string(built.message()), HasSubstr("frame 0x4"));
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(BuildXenReplicaTest, AHostileDescriptionReachesNoToolstack) {
  hello_.config = *EncodeXenDescription(description_);
  for (size_t at = 0; at < hello_.config.size(); at += 3) {
    HelloDomain bad = hello_;
    bad.config.resize(at);
    const absl::Status built =
        BuildXenReplica(std::make_unique<FakeReplicaHost>(world_), bad, options_).status();
    EXPECT_TRUE(absl::IsInvalidArgument(built)) << at;
  }
}

}  // namespace
}  // namespace haven
