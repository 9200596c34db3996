// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/file_arbiter.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "engine/membership/arbiter_child.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_register_file.h"
#include "engine/membership/arbiter_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(30);
constexpr char kGroup[] = "web";

class FileArbiterTest : public testing::Test {
 protected:
  FileArbiterTest() : arbiter_(directory_.path()) { directory_.CreateMarker(); }

  std::string RegisterPath() { return absl::StrCat(directory_.path(), "/", kGroup, ".register"); }

  // Both calls are unknown with this code and this text, and the file stays as it is.
  void ExpectUnknown(absl::StatusCode code, const std::string& text) {
    const std::string before = ReadTestFile(RegisterPath());
    for (const RegisterAnswer& answer :
         {arbiter_.Read(kGroup, absl::Milliseconds(50)),
          arbiter_.CompareAndSet(kGroup, {std::nullopt, FirstValue()}, absl::Milliseconds(50))}) {
      EXPECT_EQ(answer.verdict, Verdict::kUnknown);
      EXPECT_EQ(answer.cause.code(), code) << answer.cause;
      EXPECT_THAT(std::string(answer.cause.message()), HasSubstr(text));
      EXPECT_THAT(std::string(answer.cause.message()), HasSubstr("group web"));
      EXPECT_THAT(std::string(answer.cause.message()), HasSubstr(directory_.path()));
    }
    EXPECT_EQ(ReadTestFile(RegisterPath()), before);
  }

  TestDirectory directory_;
  FileArbiter arbiter_;
};

TEST_F(FileArbiterTest, Conforms) {
  ExpectConformance(ConformanceTargetOf(absl::StrCat("file:", directory_.path())));
}

TEST_F(FileArbiterTest, SaysWhatItIs) {
  EXPECT_EQ(arbiter_.Describe(), absl::StrCat("file:", directory_.path()));
}

TEST_F(FileArbiterTest, LeavesNothingButRegisters) {
  const Register first = FirstValue();
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, {std::nullopt, first}, kTimeout).verdict,
            Verdict::kGranted);
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, {first, NextValue(first)}, kTimeout).verdict,
            Verdict::kGranted);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("haven-arbiter", "web.register"));
}

TEST_F(FileArbiterTest, StorageThatIsNotMountedIsUnknown) {
  std::filesystem::remove(absl::StrCat(directory_.path(), "/", kArbiterMarkerName));
  ExpectUnknown(absl::StatusCode::kFailedPrecondition, "probably not mounted");
  EXPECT_FALSE(std::filesystem::exists(RegisterPath()));
  std::filesystem::remove(directory_.path());
  ExpectUnknown(absl::StatusCode::kNotFound, "open directory");
  EXPECT_FALSE(std::filesystem::exists(directory_.path()));
}

TEST_F(FileArbiterTest, ADamagedRegisterIsUnknownAndNotTouched) {
  const Register value = FirstValue();
  const std::string good = EncodeRegisterFile(kGroup, value);
  std::string wrong_checksum = good;
  wrong_checksum[RegisterSlotOffset(0) + 30] ^= 1;
  for (const std::string& content :
       {std::string("x"), std::string(kRegisterFileBytes, '\0'), good.substr(0, 1000), good + "\n",
        FormatRegister(value) + "\n", wrong_checksum, EncodeRegisterFile("other", value),
        std::string(1 << 20, 'x')}) {
    WriteTestFile(RegisterPath(), content);
    const bool too_large = content.size() > kRegisterFileBytes;
    ExpectUnknown(too_large ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kDataLoss,
                  too_large ? "is larger than" : "is damaged and will not be overwritten");
  }
}

TEST_F(FileArbiterTest, ARegisterThatIsNoFileIsUnknown) {
  ASSERT_EQ(mkfifo(RegisterPath().c_str(), 0600), 0);
  const RegisterAnswer answer = arbiter_.Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsFailedPrecondition(answer.cause)) << answer.cause;
}

TEST_F(FileArbiterTest, AHungHolderOfTheLockMakesItUnknownInTime) {
  const Register value = FirstValue();
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, {std::nullopt, value}, kTimeout).verdict,
            Verdict::kGranted);
  const UniqueFd holder(open(RegisterPath().c_str(), O_RDWR | O_CLOEXEC));
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(holder.get(), F_OFD_SETLK, &range), 0);
  const absl::Time start = absl::Now();
  ExpectUnknown(absl::StatusCode::kDeadlineExceeded, "holds the lock on");
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  range.l_type = F_UNLCK;
  ASSERT_EQ(fcntl(holder.get(), F_OFD_SETLK, &range), 0);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, value);
}

TEST_F(FileArbiterTest, AnInterruptedChangeIsRepeatedOverTheOldValue) {
  const Register first = FirstValue();
  const Register second = NextValue(first);
  // As a writer leaves it that is killed between the slot and the flip.
  std::string bytes = EncodeRegisterFile(kGroup, first);
  bytes.replace(RegisterSlotOffset(1), kRegisterRecordBytes, EncodeRegisterSlot(second));
  WriteTestFile(RegisterPath(), bytes);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, first);
  EXPECT_EQ(arbiter_.CompareAndSet(kGroup, {first, second}, kTimeout).verdict, Verdict::kGranted);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, second);
}

class KilledWriterTest : public FileArbiterTest {
 protected:
  static constexpr uint64_t kNoEnd = 1'000'000'000;

  // Lets a contender change the register until its term is `rounds`, or until it is killed.
  ChildResult Contend(uint64_t rounds, absl::Duration life) {
    return runner_
        .Run({kRacerProgram, "race", arbiter_.Describe(), kGroup, "racer", absl::StrCat(rounds),
              "30"},
             "", Deadline(life))
        .value();
  }

  // How long a contender needs to start and to make its first change.
  absl::Duration MeasureStart(Term term) {
    const absl::Time start = absl::Now();
    EXPECT_EQ(Contend(term + 1, kTimeout).end, ChildResult::End::kExited);
    return absl::Now() - start;
  }

  ChildRunner runner_;
};

// Contenders are killed at random moments in the middle of their changes. What they leave must be a
// register that one of them has written, never an older one than was seen before, and one that can
// be changed again.
TEST_F(KilledWriterTest, LeavesTheOldValueOrTheNew) {
  constexpr int kKills = 80;
  Random random(1);
  Register known = FirstValue();
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, {std::nullopt, known}, kTimeout).verdict,
            Verdict::kGranted);
  const absl::Duration start = MeasureStart(known.term);
  known = arbiter_.Read(kGroup, kTimeout).current.value();
  int changed_by_killed = 0;
  for (int i = 0; i < kKills; ++i) {
    const ChildResult child = Contend(kNoEnd, start + absl::Microseconds(random.Below(25000)));
    ASSERT_EQ(child.end, ChildResult::End::kTimedOut) << child.diagnostics;
    const RegisterAnswer after = arbiter_.Read(kGroup, kTimeout);
    ASSERT_EQ(after.verdict, Verdict::kGranted) << "kill " << i << ": " << after.cause;
    ASSERT_TRUE(after.current.has_value());
    ASSERT_GE(after.current->term, known.term);
    if (after.current->term > known.term) {
      ++changed_by_killed;
      EXPECT_EQ(after.current->owner, "racer");
    } else {
      EXPECT_EQ(*after.current, known);
    }
    known = NextValue(*after.current);
    ASSERT_EQ(arbiter_.CompareAndSet(kGroup, {after.current, known}, kTimeout).verdict,
              Verdict::kGranted);
  }
  // Otherwise too many were killed before they had begun, and little was tested.
  EXPECT_GT(changed_by_killed, kKills / 10);
}

}  // namespace
}  // namespace haven
