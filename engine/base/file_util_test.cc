// SPDX-License-Identifier: Apache-2.0
#include "engine/base/file_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

class FileUtilTest : public ::testing::Test {
 protected:
  FileUtilTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = absl::StrCat(::testing::TempDir(), "/file_util_", info->name());
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~FileUtilTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  size_t FilesInDirectory() const {
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_)) {
      ++files;
    }
    return files;
  }

  std::string directory_;
};

TEST_F(FileUtilTest, WritesReadsAndReplaces) {
  ASSERT_TRUE(WriteFileAtomically(Path("state"), "term 1").ok());
  EXPECT_EQ(*ReadBoundedFile(Path("state"), 100), "term 1");
  ASSERT_TRUE(WriteFileAtomically(Path("state"), "t2").ok());
  EXPECT_EQ(*ReadBoundedFile(Path("state"), 100), "t2");
  EXPECT_EQ(FilesInDirectory(), 1u);
}

TEST_F(FileUtilTest, KeepsBinaryAndEmptyContents) {
  const std::string binary("\0\n\xff\0x", 5);
  ASSERT_TRUE(WriteFileAtomically(Path("b"), binary).ok());
  EXPECT_EQ(*ReadBoundedFile(Path("b"), 5), binary);
  ASSERT_TRUE(WriteFileAtomically(Path("b"), "").ok());
  EXPECT_EQ(*ReadBoundedFile(Path("b"), 0), "");
}

TEST_F(FileUtilTest, SetsTheModeWhateverTheUmaskAndLeftovers) {
  { std::ofstream(Path("m.tmp")) << "left over by a crash, and longer than the new contents"; }
  ASSERT_EQ(chmod(Path("m.tmp").c_str(), 0666), 0);
  const mode_t old_umask = umask(0077);
  const absl::Status written = WriteFileAtomically(Path("m"), "x", 0640);
  umask(old_umask);
  ASSERT_TRUE(written.ok()) << written;
  struct stat info;
  ASSERT_EQ(stat(Path("m").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, mode_t{0640});
  EXPECT_EQ(*ReadBoundedFile(Path("m"), 100), "x");
}

TEST_F(FileUtilTest, AFailedWriteLeavesTheOldFileAndNoTemporary) {
  std::filesystem::create_directory(Path("taken"));
  EXPECT_FALSE(WriteFileAtomically(Path("taken"), "x").ok());
  EXPECT_TRUE(std::filesystem::is_directory(Path("taken")));
  EXPECT_EQ(FilesInDirectory(), 1u);
}

TEST_F(FileUtilTest, WritingIntoNoDirectoryNamesThePath) {
  const absl::Status status = WriteFileAtomically(Path("none/state"), "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("none/state.tmp"));
}

TEST_F(FileUtilTest, DoesNotFollowASymbolicLinkLaidInTheWay) {
  { std::ofstream(Path("victim")) << "precious"; }
  std::filesystem::create_symlink(Path("victim"), Path("state.tmp"));
  EXPECT_FALSE(WriteFileAtomically(Path("state"), "x").ok());
  EXPECT_EQ(*ReadBoundedFile(Path("victim"), 100), "precious");
}

TEST_F(FileUtilTest, TheLimitIsExact) {
  const std::string contents(10'000, 'x');
  ASSERT_TRUE(WriteFileAtomically(Path("big"), contents).ok());
  EXPECT_EQ(*ReadBoundedFile(Path("big"), 10'000), contents);
  EXPECT_EQ(*ReadBoundedFile(Path("big"), SIZE_MAX), contents);
  const absl::Status too_large = ReadBoundedFile(Path("big"), 9'999).status();
  EXPECT_EQ(too_large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(too_large.message()), HasSubstr("9999 bytes"));
  EXPECT_FALSE(ReadBoundedFile(Path("big"), 0).ok());
}

TEST_F(FileUtilTest, ReadsFilesWhoseSizeIsUnknown) {
  const absl::StatusOr<std::string> stat_file = ReadBoundedFile("/proc/self/stat", 1 << 16);
  ASSERT_TRUE(stat_file.ok()) << stat_file.status();
  EXPECT_FALSE(stat_file->empty());
}

TEST_F(FileUtilTest, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(ReadBoundedFile(Path("none"), 10).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadBoundedFile(directory_, 10).status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(ReadBoundedFile(Path("fifo"), 10).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(FileUtilTest, RemovesAndAcceptsThatThereIsNothing) {
  ASSERT_TRUE(WriteFileAtomically(Path("state"), "x").ok());
  EXPECT_TRUE(RemoveFileDurably(Path("state")).ok());
  EXPECT_EQ(FilesInDirectory(), 0u);
  EXPECT_TRUE(RemoveFileDurably(Path("state")).ok());
  EXPECT_FALSE(RemoveFileDurably(directory_).ok());
}

TEST_F(FileUtilTest, PathsWithoutADirectoryMeanTheCurrentOne) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(directory_);
  const absl::Status written = WriteFileAtomically("bare", "x");
  const absl::Status removed = RemoveFileDurably("bare");
  std::filesystem::current_path(before);
  EXPECT_TRUE(written.ok()) << written;
  EXPECT_TRUE(removed.ok()) << removed;
}

}  // namespace
}  // namespace haven
