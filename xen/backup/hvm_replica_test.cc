// SPDX-License-Identifier: Apache-2.0
//
// Copies that have a device model: how they are built, and what XenReplica does with theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "xen/backup/xen_replica_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using HvmReplicaTest = XenReplicaTest;

std::vector<std::byte> PvhState() {
  return FakeXenState(FakeHvmContext({0}, std::byte{9}), FakeHvmParams());
}

std::vector<std::byte> HvmState() { return WithDeviceModel(PvhState(), FakeDeviceModelState()); }

TEST_F(HvmReplicaTest, ADeviceModelWaitsWithTheCopy) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  ASSERT_NE(replica, nullptr);
  EXPECT_EQ(ReadFolderFile("stream"), Stream());
  EXPECT_THAT(world_->Calls(), ElementsAre("device model runs"));
  EXPECT_TRUE(qemu_->connected());
  EXPECT_TRUE(qemu_->state().empty());
}

TEST_F(HvmReplicaTest, AnotherVersionOfTheDeviceModelIsNamedWithTheRemedy) {
  for (const char* const original : {"7.3.22 Debian", "8.2.22", "7", "7.20.22"}) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    MakeHvm();
    description_.device_model = original;
    const absl::Status built = Build("hvm").status();
    EXPECT_TRUE(absl::IsFailedPrecondition(built)) << built;
    EXPECT_THAT(std::string(built.message()), HasSubstr("QEMU is 7.2.22 Debian"));
    EXPECT_THAT(std::string(built.message()), HasSubstr(original));
    EXPECT_THAT(std::string(built.message()), HasSubstr("Install the same QEMU"));
    EXPECT_TRUE(std::filesystem::exists(world_->unmade)) << "by the toolstack, which was let go on";
    EXPECT_FALSE(std::filesystem::exists(folder_ / "destroyed-by-command"));
  }
}

TEST_F(HvmReplicaTest, ADeviceModelThatDoesNotWaitIsNoCopys) {
  MakeHvm({.waiting = "running"});
  const absl::Status built = Build("hvm").status();
  EXPECT_THAT(std::string(built.message()), HasSubstr("run state \"running\""));
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
}

TEST_F(HvmReplicaTest, AMissingFileToBootFromIsNamedWithTheRemedy) {
  for (const std::string missing : {"/guest/vmlinuz", "/guest/initrd.gz"}) {
    MakeHvm();
    world_->files.erase(missing);
    const absl::Status built = Build("hvm").status();
    EXPECT_TRUE(absl::IsFailedPrecondition(built));
    EXPECT_THAT(std::string(built.message()), HasSubstr("there is no file " + missing));
    EXPECT_THAT(std::string(built.message()), HasSubstr("copy it from the original's host"));
    EXPECT_FALSE(std::filesystem::exists(world_->made));
  }
}

TEST_F(HvmReplicaTest, AToolstackThatEndsBeforeTheStateIsThereIsQuoted) {
  MakeHvm();
  const absl::Status built = Build("hvm-dies-before-state").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(built)) << built;
  EXPECT_THAT(std::string(built.message()), HasSubstr("unable to open qemu-resume"));
}

TEST_F(HvmReplicaTest, AToolstackThatIsKilledLeavesNoLinkForALaterOne) {
  MakeHvm();
  const absl::Status built = Build("hvm-killed-after-end").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(built)) << built;
  EXPECT_FALSE(std::filesystem::is_symlink(folder_ / "qemu-resume.7"));
  EXPECT_EQ(ReadFolderFile("destroyed-by-command"), "7\n");
  EXPECT_TRUE(world_->Calls().empty()) << "no word about a domain that is gone";
}

TEST_F(HvmReplicaTest, NothingIsWrittenThroughALinkThatAnEarlierDomainHasLeft) {
  MakeHvm();
  std::ofstream(folder_ / "victim") << "kept";
  std::filesystem::create_symlink(folder_ / "victim", folder_ / "qemu-resume.7");
  ASSERT_NE(Good("hvm"), nullptr);
  EXPECT_EQ(ReadFolderFile("victim"), "kept");
}

TEST_F(HvmReplicaTest, AFileThatAnEarlierDomainHasLeftIsNotTakenForTheState) {
  MakeHvm();
  std::ofstream(folder_ / "qemu-resume.7") << std::string(kEmptyDeviceModelState.size(), 'Q');
  EXPECT_FALSE(Build("hvm-dies-before-state").ok());
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(folder_ / "qemu-resume.7")));
}

TEST_F(HvmReplicaTest, ADeviceModelGetsItsStateLast) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  ASSERT_TRUE(replica->CheckState(HvmState()).ok());
  EXPECT_TRUE(qemu_->state().empty());
  ASSERT_TRUE(replica->Prepare(HvmState()).ok());
  EXPECT_EQ(qemu_->state(), FakeDeviceModelState());
  EXPECT_EQ(world_->context, FakeHvmContext({0}, std::byte{9}));
  const std::vector<std::string> calls = {"device model runs", "tsc", "context"};
  EXPECT_EQ(world_->Calls(), calls);
  const absl::Status again = replica->Prepare(HvmState());
  EXPECT_TRUE(absl::IsInternal(again));
  EXPECT_THAT(std::string(again.message()), HasSubstr("loads only one"));
  EXPECT_EQ(world_->Calls(), calls) << "nothing was set twice";
  ASSERT_TRUE(replica->Run().ok());
  EXPECT_TRUE(world_->running);
  // The next protection of the guest connects to it.
  EXPECT_TRUE(Eventually([this] { return !qemu_->connected(); }));
}

TEST_F(HvmReplicaTest, AStateHasADeviceModelsExactlyIfTheCopyHasOne) {
  {
    const std::unique_ptr<XenReplica> pvh = Good();
    EXPECT_TRUE(absl::IsInvalidArgument(pvh->CheckState(HvmState())));
    EXPECT_TRUE(absl::IsInternal(pvh->Prepare(HvmState())));
  }
  std::filesystem::remove(world_->made);
  std::filesystem::remove(world_->unmade);
  MakeHvm();
  const std::unique_ptr<XenReplica> hvm = Good("hvm");
  EXPECT_TRUE(absl::IsInvalidArgument(hvm->CheckState(PvhState())));
  EXPECT_TRUE(absl::IsInternal(hvm->Prepare(PvhState())));
  EXPECT_TRUE(hvm->CheckState(HvmState()).ok());
}

TEST_F(HvmReplicaTest, ADeviceModelIsNotGivenWhatTheHypervisorRefused) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  world_->refused = {"context"};
  EXPECT_TRUE(absl::IsInternal(replica->Prepare(HvmState())));
  EXPECT_TRUE(qemu_->state().empty());
  world_->refused.clear();
  EXPECT_TRUE(replica->Prepare(HvmState()).ok());
}

TEST_F(HvmReplicaTest, AnEpochIsNotTakenForACopyWhoseDeviceModelIsGone) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  ASSERT_TRUE(replica->CheckState(HvmState()).ok());
  qemu_->End();
  const absl::Status checked = replica->CheckState(HvmState());
  EXPECT_TRUE(absl::IsAborted(checked));
  EXPECT_THAT(std::string(checked.message()), HasSubstr("guest g1"));
  EXPECT_THAT(std::string(checked.message()), HasSubstr("device model of the copy is lost"));
}

TEST_F(HvmReplicaTest, ADeviceModelThatIsLostBeforeTheCopyRunsIsTold) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  ASSERT_TRUE(replica->Prepare(HvmState()).ok());
  qemu_->End();
  testing::internal::CaptureStderr();
  EXPECT_TRUE(replica->Run().ok()) << "there is no way back";
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("device model of the copy is lost"));
  EXPECT_TRUE(world_->running);
}

TEST_F(HvmReplicaTest, ADeviceModelThatCanNotLoadItsStateIsQuoted) {
  MakeHvm({.dies_after = 100});
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  const absl::Status prepared = replica->Prepare(HvmState());
  EXPECT_TRUE(absl::IsInternal(prepared));
  EXPECT_THAT(std::string(prepared.message()), HasSubstr("the copy of guest g1 can not run"));
  EXPECT_THAT(std::string(prepared.message()), HasSubstr("load of migration failed"));
  EXPECT_TRUE(replica->Abandon().ok());
}

TEST_F(HvmReplicaTest, AnAbandonedDeviceModelIsLetGoAndTheCopyDestroyed) {
  MakeHvm();
  const std::unique_ptr<XenReplica> replica = Good("hvm");
  EXPECT_TRUE(replica->Abandon().ok());
  EXPECT_TRUE(std::filesystem::exists(world_->unmade));
  EXPECT_TRUE(Eventually([this] { return !qemu_->connected(); }));
  EXPECT_TRUE(qemu_->state().empty());
}

}  // namespace
}  // namespace haven
