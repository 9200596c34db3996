// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/manual_arbiter.h"

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_manual_answers.h"
#include "engine/membership/arbiter_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kGroup[] = "web";
constexpr absl::Duration kTimeout = absl::Seconds(30);

class ManualArbiterTest : public testing::Test {
 protected:
  ManualArbiterTest() : arbiter_(directory_.path()) { directory_.CreateMarker(); }

  // One try that does not wait for the operator.
  RegisterAnswer Ask(const RegisterRequest& request) {
    return arbiter_.CompareAndSet(kGroup, request, absl::ZeroDuration());
  }
  absl::Status Answer(const RegisterRequest& request, ManualVerdict verdict) {
    return AnswerManualRequest(directory_.path(), kGroup, request.desired.stamp, verdict, kTimeout);
  }
  std::vector<ManualRequest> Listed() {
    const absl::StatusOr<ManualRequestList> list = ListManualRequests(directory_.path(), kTimeout);
    EXPECT_TRUE(list.ok()) << list.status();
    EXPECT_THAT(list->problems, SizeIs(0));
    return list->requests;
  }
  std::string FileOf(const RegisterRequest& request) {
    return absl::StrCat(directory_.path(), "/",
                        ManualRequestFileName(kGroup, request.desired.stamp));
  }
  size_t RequestFiles() {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
      if (entry.path().extension().string() == kManualRequestSuffix) ++count;
    }
    return count;
  }

  TestDirectory directory_;
  ManualArbiter arbiter_;
  const RegisterRequest create_{std::nullopt, FirstValue()};
  const RegisterRequest change_{create_.desired, NextValue(create_.desired)};
};

// An operator who approves whatever is asked, as fast as it comes.
class Approver {
 public:
  explicit Approver(std::string directory)
      : directory_(std::move(directory)), thread_([this] { Work(); }) {}
  ~Approver() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Work() {
    while (!stop_) {
      const absl::StatusOr<ManualRequestList> list = ListManualRequests(directory_, kTimeout);
      if (!list.ok()) {
        ADD_FAILURE() << list.status();
        return;
      }
      for (const ManualRequest& asked : list->requests) {
        const absl::Status status =
            AnswerManualRequest(directory_, asked.group, asked.request.desired.stamp,
                                ManualVerdict::kApprove, kTimeout);
        // A rival's approval in this very round makes it void.
        EXPECT_TRUE(status.ok() || absl::IsFailedPrecondition(status) || absl::IsNotFound(status))
            << status;
      }
      Deadline(kTimeout).Pause(absl::Milliseconds(2));
    }
  }

  const std::string directory_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST_F(ManualArbiterTest, ConformsWithAnOperatorWhoApproves) {
  const Approver approver(directory_.path());
  ConformanceTarget target = ConformanceTargetOf(absl::StrCat("manual:", directory_.path()));
  target.race_rounds = 10;
  target.grants_come_late = true;
  ExpectConformance(target);
}

TEST_F(ManualArbiterTest, AChangeWaitsAndSaysWhatToDo) {
  const RegisterAnswer answer = Ask(create_);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsUnavailable(answer.cause)) << answer.cause;
  const std::string cause(answer.cause.message());
  EXPECT_THAT(cause, HasSubstr("waits for an operator's answer"));
  EXPECT_THAT(cause, HasSubstr(FileOf(create_)));
  EXPECT_THAT(cause, HasSubstr(ManualAnswerCommand(directory_.path(), kGroup, create_.desired.stamp,
                                                   "approve")));
  EXPECT_THAT(ReadTestFile(FileOf(create_)), HasSubstr("asks to create the register"));
  ASSERT_THAT(Listed(), SizeIs(1));
  EXPECT_EQ(Listed()[0].group, kGroup);
  EXPECT_EQ(Listed()[0].request.desired, create_.desired);
  EXPECT_FALSE(Listed()[0].denied);
}

TEST_F(ManualArbiterTest, ReadsAnswerAtOnce) {
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, std::nullopt);
  Ask(create_);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).verdict, Verdict::kGranted);
  ASSERT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, create_.desired);
}

TEST_F(ManualArbiterTest, AskingAgainLeavesTheRequestAsItIs) {
  Ask(create_);
  const std::string before = ReadTestFile(FileOf(create_));
  EXPECT_EQ(Ask(create_).verdict, Verdict::kUnknown);
  EXPECT_EQ(ReadTestFile(FileOf(create_)), before);
}

TEST_F(ManualArbiterTest, AnApprovalGrantsAndCleansUp) {
  Ask(create_);
  EXPECT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  const RegisterAnswer answer = Ask(create_);
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, create_.desired);
  EXPECT_EQ(RequestFiles(), 0u);
  EXPECT_THAT(Listed(), SizeIs(0));
}

TEST_F(ManualArbiterTest, AnApprovalEndsTheWait) {
  RegisterAnswer answer;
  std::thread asker([&] { answer = arbiter_.CompareAndSet(kGroup, create_, kTimeout); });
  const Deadline deadline(kTimeout);
  absl::Status status = absl::NotFoundError("not asked yet");
  while (absl::IsNotFound(status) && !deadline.Passed()) {
    status = Answer(create_, ManualVerdict::kApprove);
  }
  asker.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
}

TEST_F(ManualArbiterTest, TheWaitEndsWithItsTimeout) {
  const absl::Time start = absl::Now();
  EXPECT_EQ(arbiter_.CompareAndSet(kGroup, create_, absl::Milliseconds(300)).verdict,
            Verdict::kUnknown);
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(300));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(ManualArbiterTest, ADenialStands) {
  Ask(create_);
  EXPECT_TRUE(Answer(create_, ManualVerdict::kDeny).ok());
  for (int i = 0; i < 2; ++i) {
    const RegisterAnswer answer = Ask(create_);
    EXPECT_EQ(answer.verdict, Verdict::kDenied);
    EXPECT_EQ(answer.current, std::nullopt);
  }
  EXPECT_TRUE(Answer(create_, ManualVerdict::kDeny).ok());
  const absl::Status approved = Answer(create_, ManualVerdict::kApprove);
  EXPECT_TRUE(absl::IsFailedPrecondition(approved)) << approved;
  EXPECT_THAT(std::string(approved.message()), HasSubstr("was denied before"));
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, std::nullopt);
  ASSERT_THAT(Listed(), SizeIs(1));
  EXPECT_TRUE(Listed()[0].denied);
}

TEST_F(ManualArbiterTest, ADeniedChangeMayBeAskedUnderANewId) {
  Ask(create_);
  ASSERT_TRUE(Answer(create_, ManualVerdict::kDeny).ok());
  const RegisterRequest again{std::nullopt, NextValue(create_.desired)};
  EXPECT_EQ(Ask(again).verdict, Verdict::kUnknown);
  ASSERT_TRUE(Answer(again, ManualVerdict::kApprove).ok());
  EXPECT_EQ(Ask(again).verdict, Verdict::kGranted);
  // The denied one is void by now, and gone.
  EXPECT_EQ(RequestFiles(), 0u);
  EXPECT_EQ(Ask(create_).verdict, Verdict::kDenied);
  EXPECT_EQ(Ask(create_).current, again.desired);
}

TEST_F(ManualArbiterTest, AnApprovalIsForOneRequestOnly) {
  const RegisterRequest rival{std::nullopt, NextValue(create_.desired)};
  Ask(create_);
  Ask(rival);
  EXPECT_THAT(Listed(), SizeIs(2));
  ASSERT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  EXPECT_EQ(Ask(rival).verdict, Verdict::kDenied);
  EXPECT_EQ(Ask(create_).verdict, Verdict::kGranted);
  EXPECT_EQ(RequestFiles(), 0u);
  const absl::Status late = Answer(rival, ManualVerdict::kApprove);
  EXPECT_TRUE(absl::IsNotFound(late)) << late;
}

TEST_F(ManualArbiterTest, AChangedRegisterMakesARequestVoid) {
  Ask(create_);
  ASSERT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  Ask(change_);
  // As by another way than this arbiter's requests.
  const Register other = NextValue(create_.desired);
  ASSERT_EQ(FileArbiter(directory_.path())
                .CompareAndSet(kGroup, {create_.desired, other}, kTimeout)
                .verdict,
            Verdict::kGranted);
  EXPECT_THAT(Listed(), SizeIs(0));
  for (const ManualVerdict verdict : {ManualVerdict::kApprove, ManualVerdict::kDeny}) {
    const absl::Status status = Answer(change_, verdict);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("void"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(FormatRegister(other)));
  }
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, other);
  EXPECT_EQ(Ask(change_).verdict, Verdict::kDenied);
  EXPECT_EQ(RequestFiles(), 0u);
}

TEST_F(ManualArbiterTest, TheSameAnswerTwiceIsOneAnswer) {
  Ask(create_);
  const std::string posted = ReadTestFile(FileOf(create_));
  ASSERT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  // As after a crash between the change and the removal of the file.
  WriteTestFile(FileOf(create_), posted);
  EXPECT_TRUE(Answer(create_, ManualVerdict::kApprove).ok());
  const absl::Status denied = Answer(create_, ManualVerdict::kDeny);
  EXPECT_TRUE(absl::IsFailedPrecondition(denied)) << denied;
  EXPECT_THAT(std::string(denied.message()), HasSubstr("has been approved before"));
  EXPECT_THAT(Listed(), SizeIs(0));
  EXPECT_EQ(Ask(create_).verdict, Verdict::kGranted);
  EXPECT_EQ(RequestFiles(), 0u);
}

TEST_F(ManualArbiterTest, WhatNobodyAsksCanNotBeAnswered) {
  const absl::Status status = Answer(create_, ManualVerdict::kApprove);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nobody asks for request"));
  EXPECT_TRUE(absl::IsInvalidArgument(
      AnswerManualRequest(directory_.path(), "../web", 1, ManualVerdict::kDeny, kTimeout)));
  EXPECT_EQ(RequestFiles(), 0u);
}

TEST_F(ManualArbiterTest, ARequestThatIsNotWrittenYetIsNoRequest) {
  WriteTestFile(FileOf(create_), "");
  EXPECT_THAT(Listed(), SizeIs(0));
  EXPECT_TRUE(absl::IsNotFound(Answer(create_, ManualVerdict::kApprove)));
  EXPECT_EQ(Ask(create_).verdict, Verdict::kUnknown);
  EXPECT_THAT(Listed(), SizeIs(1));
}

TEST_F(ManualArbiterTest, ADamagedRequestIsShownAndNeverAnswered) {
  for (const std::string& content :
       {std::string("approved, says the boss\n"), std::string(1 << 20, 'x')}) {
    WriteTestFile(FileOf(create_), content);
    EXPECT_EQ(Ask(create_).verdict, Verdict::kUnknown);
    EXPECT_THAT(std::string(Ask(create_).cause.message()), HasSubstr(FileOf(create_)));
    const absl::StatusOr<ManualRequestList> list = ListManualRequests(directory_.path(), kTimeout);
    ASSERT_TRUE(list.ok());
    EXPECT_THAT(list->requests, SizeIs(0));
    ASSERT_THAT(list->problems, SizeIs(1));
    EXPECT_THAT(std::string(list->problems[0].message()), HasSubstr(FileOf(create_)));
    EXPECT_FALSE(Answer(create_, ManualVerdict::kApprove).ok());
    EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, std::nullopt);
  }
}

TEST_F(ManualArbiterTest, ARequestUnderAnotherName) {
  Ask(create_);
  const RegisterRequest other{std::nullopt, NextValue(create_.desired)};
  std::filesystem::rename(FileOf(create_), FileOf(other));
  const absl::Status status = Answer(other, ManualVerdict::kApprove);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  const RegisterAnswer answer = Ask(other);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsInternal(answer.cause)) << answer.cause;
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, std::nullopt);
}

TEST_F(ManualArbiterTest, ADirectoryOutOfReachIsUnknown) {
  std::filesystem::remove(absl::StrCat(directory_.path(), "/", kArbiterMarkerName));
  EXPECT_EQ(Ask(create_).verdict, Verdict::kUnknown);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsFailedPrecondition(Answer(create_, ManualVerdict::kApprove)));
  EXPECT_FALSE(ListManualRequests(directory_.path(), kTimeout).ok());
}

TEST_F(ManualArbiterTest, TooManyRequestsAreRefusedNotSearched) {
  for (size_t i = 0; i <= kManualRequestLimit; ++i) {
    WriteTestFile(absl::StrCat(directory_.path(), "/", ManualRequestFileName(kGroup, i + 1)), "");
  }
  EXPECT_TRUE(absl::IsResourceExhausted(ListManualRequests(directory_.path(), kTimeout).status()));
}

}  // namespace
}  // namespace haven
