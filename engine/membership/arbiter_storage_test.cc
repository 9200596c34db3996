// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_storage.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Lock = SharedDirectory::Lock;
using IfMissing = SharedDirectory::IfMissing;

class ArbiterStorageTest : public testing::Test {
 protected:
  ArbiterStorageTest() { directory_.CreateMarker(); }

  SharedDirectory Open() { return SharedDirectory::Open(directory_.path()).value(); }
  std::string PathOf(absl::string_view name) { return absl::StrCat(directory_.path(), "/", name); }
  static Deadline Soon() { return Deadline(absl::Milliseconds(50)); }
  static Deadline Later() { return Deadline(absl::Seconds(30)); }

  TestDirectory directory_;
};

TEST_F(ArbiterStorageTest, ADirectoryWithoutMarkerIsNotUsed) {
  std::filesystem::remove(PathOf(kArbiterMarkerName));
  const absl::Status status = SharedDirectory::Open(directory_.path()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("probably not mounted"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("touch ", directory_.path())));
}

TEST_F(ArbiterStorageTest, AMissingDirectoryIsNamed) {
  const absl::Status status = SharedDirectory::Open(PathOf("missing")).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(PathOf("missing")));
}

TEST_F(ArbiterStorageTest, WritesAndReadsInPlace) {
  const SharedDirectory directory = Open();
  LockedFile file = directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Soon()).value();
  EXPECT_EQ(file.ReadAll(10).value(), "");
  ASSERT_TRUE(file.WriteAt(0, "abcdef").ok());
  ASSERT_TRUE(file.WriteAt(2, "XY").ok());
  ASSERT_TRUE(file.Sync().ok());
  ASSERT_TRUE(directory.Sync().ok());
  EXPECT_EQ(file.ReadAll(6).value(), "abXYef");
  EXPECT_TRUE(absl::IsResourceExhausted(file.ReadAll(5).status()));
  struct stat info;
  ASSERT_EQ(stat(PathOf("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(ArbiterStorageTest, OpensWhatIsThereOnlyAsARegularFile) {
  const SharedDirectory directory = Open();
  EXPECT_TRUE(absl::IsNotFound(
      directory.OpenLocked("none", Lock::kShared, IfMissing::kFail, Soon()).status()));
  ASSERT_EQ(mkfifo(PathOf("fifo").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(
      directory.OpenLocked("fifo", Lock::kShared, IfMissing::kFail, Soon()).status()));
  std::filesystem::create_directory(PathOf("sub"));
  EXPECT_FALSE(directory.OpenLocked("sub", Lock::kShared, IfMissing::kCreate, Soon()).ok());
  std::filesystem::create_symlink(PathOf("elsewhere"), PathOf("link"));
  EXPECT_FALSE(directory.OpenLocked("link", Lock::kShared, IfMissing::kCreate, Soon()).ok());
  EXPECT_FALSE(std::filesystem::exists(PathOf("elsewhere")));
}

TEST_F(ArbiterStorageTest, SharedLocksGoTogetherExclusiveOnesDoNot) {
  const SharedDirectory directory = Open();
  const auto lock = [&](Lock kind) {
    return directory.OpenLocked("f", kind, IfMissing::kCreate, Soon());
  };
  {
    const absl::StatusOr<LockedFile> reader = lock(Lock::kShared);
    ASSERT_TRUE(reader.ok());
    EXPECT_TRUE(lock(Lock::kShared).ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded(lock(Lock::kExclusive).status()));
  }
  const absl::StatusOr<LockedFile> writer = lock(Lock::kExclusive);
  ASSERT_TRUE(writer.ok());
  const absl::Status refused = lock(Lock::kShared).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr(PathOf("f")));
}

TEST_F(ArbiterStorageTest, AWaiterGetsTheLockWhenItIsReleased) {
  const SharedDirectory directory = Open();
  auto holder = std::make_unique<LockedFile>(
      directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Soon()).value());
  absl::Status waited = absl::UnknownError("has not run");
  std::thread waiter([&] {
    absl::StatusOr<LockedFile> file =
        directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Later());
    waited = file.ok() ? file->WriteAt(0, "waiter") : file.status();
  });
  // The waiter may come first or last to its wait: both ends must leave it with the lock.
  ASSERT_TRUE(holder->WriteAt(0, "holder").ok());
  holder.reset();
  waiter.join();
  EXPECT_TRUE(waited.ok()) << waited;
  EXPECT_EQ(ReadTestFile(PathOf("f")), "waiter");
}

TEST_F(ArbiterStorageTest, AWaiterFollowsTheNameWhenTheFileIsReplaced) {
  const SharedDirectory directory = Open();
  auto holder = std::make_unique<LockedFile>(
      directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Soon()).value());
  absl::Status waited = absl::UnknownError("has not run");
  std::thread waiter([&] {
    absl::StatusOr<LockedFile> file =
        directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Later());
    waited = file.ok() ? file->WriteAt(0, "waiter") : file.status();
  });
  // The waiter opens the first file or the second one. It must write to the second in any case.
  WriteTestFile(PathOf("new"), "replaced");
  std::filesystem::rename(PathOf("new"), PathOf("f"));
  holder.reset();
  waiter.join();
  EXPECT_TRUE(waited.ok()) << waited;
  EXPECT_EQ(ReadTestFile(PathOf("f")), "waitered");
}

TEST_F(ArbiterStorageTest, AFileThatIsRemovedWhileItIsWaitedForIsMissing) {
  const SharedDirectory directory = Open();
  auto holder = std::make_unique<LockedFile>(
      directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Soon()).value());
  absl::Status waited;
  std::thread waiter([&] {
    waited = directory.OpenLocked("f", Lock::kShared, IfMissing::kFail, Later()).status();
  });
  ASSERT_TRUE(directory.Remove("f").ok());
  holder.reset();
  waiter.join();
  EXPECT_TRUE(absl::IsNotFound(waited)) << waited;
}

TEST_F(ArbiterStorageTest, AWaitForALockEndsWithItsDeadline) {
  const SharedDirectory directory = Open();
  const absl::StatusOr<LockedFile> holder =
      directory.OpenLocked("f", Lock::kExclusive, IfMissing::kCreate, Soon());
  ASSERT_TRUE(holder.ok());
  const absl::Time start = absl::Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      directory.OpenLocked("f", Lock::kShared, IfMissing::kFail, Deadline(absl::Milliseconds(200)))
          .status()));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(200));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
}

TEST_F(ArbiterStorageTest, ListsAndRemoves) {
  const SharedDirectory directory = Open();
  for (const char* name : {"b.x", "a.x", "c.y"}) WriteTestFile(PathOf(name), "");
  EXPECT_THAT(directory.List(".x", 2).value(), ElementsAre("a.x", "b.x"));
  EXPECT_TRUE(absl::IsResourceExhausted(directory.List(".x", 1).status()));
  EXPECT_TRUE(directory.Remove("a.x").ok());
  EXPECT_TRUE(directory.Remove("a.x").ok());
  EXPECT_THAT(directory.List(".x", 2).value(), ElementsAre("b.x"));
  EXPECT_FALSE(directory.Remove(".").ok());
}

TEST_F(ArbiterStorageTest, StaysWithTheDirectoryItOpened) {
  const SharedDirectory directory = Open();
  TestDirectory other;
  const std::string moved = absl::StrCat(other.path(), "/moved");
  std::filesystem::rename(directory_.path(), moved);
  std::filesystem::create_directory(directory_.path());
  ASSERT_TRUE(directory.OpenLocked("f", Lock::kShared, IfMissing::kCreate, Soon()).ok());
  EXPECT_TRUE(std::filesystem::exists(absl::StrCat(moved, "/f")));
  EXPECT_FALSE(std::filesystem::exists(PathOf("f")));
}

}  // namespace
}  // namespace haven
