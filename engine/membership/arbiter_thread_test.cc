// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_thread.h"

#include <poll.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

// Answers when it is let: each call waits for a permit.
class GatedArbiter final : public Arbiter {
 public:
  RegisterAnswer Read(absl::string_view group, absl::Duration) override {
    Pass(absl::StrCat("read ", group));
    return GrantedAnswer(std::nullopt);
  }
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration) override {
    Pass(absl::StrCat("change ", group));
    return GrantedAnswer(request.desired);
  }
  std::string Describe() const override { return "gated"; }

  void Permit(size_t calls) {
    const std::lock_guard<std::mutex> lock(mutex_);
    permits_ += calls;
    changed_.notify_all();
  }
  // Until so many calls have begun.
  void AwaitCalls(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return calls_.size() >= count; });
  }
  std::vector<std::string> calls() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls_;
  }

 private:
  void Pass(std::string call) {
    std::unique_lock<std::mutex> lock(mutex_);
    calls_.push_back(std::move(call));
    changed_.notify_all();
    changed_.wait(lock, [this] { return permits_ > 0; });
    --permits_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t permits_ = 0;
  std::vector<std::string> calls_;
};

class ArbiterThreadTest : public testing::Test {
 protected:
  ~ArbiterThreadTest() override {
    // Lets whatever a test has left hanging go.
    arbiter_->Permit(1000);
  }

  bool Readable(absl::Duration timeout) {
    pollfd fd = {thread_->fd(), POLLIN, 0};
    return poll(&fd, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
  }
  // The next reply, once the descriptor says that there is one.
  ArbiterReply Await() {
    EXPECT_TRUE(Readable(kLong));
    std::optional<ArbiterReply> reply = thread_->Pop();
    EXPECT_TRUE(reply.has_value());
    return reply.value_or(ArbiterReply{});
  }

  const Register value_{1, "host-a", RegisterMode::kNone, kNoSession, true, 7};
  const std::shared_ptr<GatedArbiter> arbiter_ = std::make_shared<GatedArbiter>();
  const std::unique_ptr<ArbiterThread> thread_ = ArbiterThread::Start(arbiter_).value();
};

TEST_F(ArbiterThreadTest, CarriesCallsAndAnswers) {
  EXPECT_FALSE(Readable(absl::ZeroDuration()));
  EXPECT_FALSE(thread_->Pop().has_value());
  arbiter_->Permit(2);
  ASSERT_TRUE(thread_->SubmitRead(1, "web", kLong).ok());
  ArbiterReply reply = Await();
  EXPECT_EQ(reply.id, 1u);
  EXPECT_EQ(reply.group, "web");
  EXPECT_EQ(reply.answer.verdict, Verdict::kGranted);
  EXPECT_EQ(reply.answer.current, std::nullopt);
  ASSERT_TRUE(thread_->SubmitChange(2, "web", {std::nullopt, value_}, kLong).ok());
  reply = Await();
  EXPECT_EQ(reply.id, 2u);
  EXPECT_EQ(reply.answer.current, value_);
  EXPECT_FALSE(Readable(absl::ZeroDuration()));
  EXPECT_THAT(arbiter_->calls(), ElementsAre("read web", "change web"));
}

TEST_F(ArbiterThreadTest, SubmittingDoesNotWaitForTheArbiter) {
  ASSERT_TRUE(thread_->SubmitRead(1, "a", kLong).ok());
  arbiter_->AwaitCalls(1);
  ASSERT_TRUE(thread_->SubmitRead(2, "b", kLong).ok());
  EXPECT_FALSE(thread_->Pop().has_value());
  EXPECT_FALSE(Readable(absl::ZeroDuration()));
  arbiter_->Permit(2);
  EXPECT_EQ(Await().id, 1u);
  EXPECT_EQ(Await().id, 2u);
}

TEST_F(ArbiterThreadTest, TheDescriptorStaysReadableUntilTheLastReplyIsPopped) {
  arbiter_->Permit(2);
  ASSERT_TRUE(thread_->SubmitRead(1, "a", kLong).ok());
  ASSERT_TRUE(thread_->SubmitRead(2, "b", kLong).ok());
  EXPECT_EQ(Await().id, 1u);
  EXPECT_EQ(Await().id, 2u);
  EXPECT_FALSE(Readable(absl::ZeroDuration()));
}

TEST_F(ArbiterThreadTest, AGroupHasOneCallAtATime) {
  ASSERT_TRUE(thread_->SubmitRead(1, "web", kLong).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(thread_->SubmitRead(2, "web", kLong)));
  arbiter_->AwaitCalls(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(thread_->SubmitRead(3, "web", kLong)));
  arbiter_->Permit(1);
  ASSERT_TRUE(Readable(kLong));
  EXPECT_TRUE(absl::IsFailedPrecondition(thread_->SubmitRead(4, "web", kLong)));
  EXPECT_EQ(Await().id, 1u);
  arbiter_->Permit(1);
  EXPECT_TRUE(thread_->SubmitRead(5, "web", kLong).ok());
  EXPECT_EQ(Await().id, 5u);
}

TEST_F(ArbiterThreadTest, TheQueueIsBounded) {
  for (size_t i = 0; i < ArbiterThread::kCallLimit; ++i) {
    ASSERT_TRUE(thread_->SubmitRead(i, absl::StrCat("g", i), kLong).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(thread_->SubmitRead(999, "more", kLong)));
  arbiter_->Permit(ArbiterThread::kCallLimit);
  for (size_t i = 0; i < ArbiterThread::kCallLimit; ++i) EXPECT_EQ(Await().id, i);
  EXPECT_FALSE(thread_->Pop().has_value());
}

TEST_F(ArbiterThreadTest, ACallThatHangsIsAnsweredUnknown) {
  const absl::Time start = absl::Now();
  ASSERT_TRUE(thread_->SubmitRead(1, "web", absl::Milliseconds(50)).ok());
  const ArbiterReply reply = Await();
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(50) + ArbiterThread::kGrace);
  EXPECT_EQ(reply.id, 1u);
  EXPECT_EQ(reply.answer.verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsDeadlineExceeded(reply.answer.cause)) << reply.answer.cause;
  EXPECT_THAT(std::string(reply.answer.cause.message()),
              HasSubstr("arbiter gated, group web: no answer within 50ms"));
  EXPECT_THAT(std::string(reply.answer.cause.message()), HasSubstr("has been in one call for"));
}

TEST_F(ArbiterThreadTest, WhatWaitsBehindAHangingCallIsAnsweredTooAndNeverMade) {
  ASSERT_TRUE(thread_->SubmitRead(1, "web", absl::Milliseconds(20)).ok());
  arbiter_->AwaitCalls(1);
  ASSERT_TRUE(thread_->SubmitChange(2, "db", {std::nullopt, value_}, absl::Milliseconds(40)).ok());
  EXPECT_EQ(Await().id, 1u);
  const ArbiterReply reply = Await();
  EXPECT_EQ(reply.id, 2u);
  EXPECT_EQ(reply.answer.verdict, Verdict::kUnknown);
  // A repetition is accepted at once, and is made as soon as the arbiter is back.
  ASSERT_TRUE(thread_->SubmitRead(3, "web", kLong).ok());
  arbiter_->Permit(2);
  EXPECT_EQ(Await().id, 3u);
  EXPECT_THAT(arbiter_->calls(), ElementsAre("read web", "read web"));
}

TEST_F(ArbiterThreadTest, TheLateAnswerOfAHangingCallIsDropped) {
  ASSERT_TRUE(thread_->SubmitRead(1, "web", absl::Milliseconds(20)).ok());
  EXPECT_EQ(Await().answer.verdict, Verdict::kUnknown);
  arbiter_->Permit(2);
  ASSERT_TRUE(thread_->SubmitRead(2, "web", kLong).ok());
  const ArbiterReply reply = Await();
  EXPECT_EQ(reply.id, 2u);
  EXPECT_EQ(reply.answer.verdict, Verdict::kGranted);
  EXPECT_FALSE(thread_->Pop().has_value());
}

TEST_F(ArbiterThreadTest, StopsWhenIdle) {
  EXPECT_TRUE(thread_->Stop(kLong).ok());
  EXPECT_TRUE(thread_->Stop(kLong).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(thread_->SubmitRead(1, "web", kLong)));
  EXPECT_FALSE(thread_->Pop().has_value());
}

TEST_F(ArbiterThreadTest, NoReplyComesAfterStopping) {
  arbiter_->Permit(2);
  ASSERT_TRUE(thread_->SubmitRead(1, "a", kLong).ok());
  ASSERT_TRUE(thread_->SubmitRead(2, "b", kLong).ok());
  ASSERT_TRUE(Readable(kLong));
  EXPECT_TRUE(thread_->Stop(kLong).ok());
  EXPECT_FALSE(thread_->Pop().has_value());
  EXPECT_FALSE(Readable(absl::ZeroDuration()));
}

TEST_F(ArbiterThreadTest, StoppingDoesNotWaitForACallThatHangs) {
  ASSERT_TRUE(thread_->SubmitRead(1, "web", kLong).ok());
  arbiter_->AwaitCalls(1);
  const absl::Time start = absl::Now();
  const absl::Status status = thread_->Stop(absl::Milliseconds(100));
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("gated hangs"));
  EXPECT_TRUE(thread_->Stop(kLong).ok());
}

TEST_F(ArbiterThreadTest, TheDestructorLeavesAHangingCallToItself) {
  const auto arbiter = std::make_shared<GatedArbiter>();
  std::unique_ptr<ArbiterThread> thread = ArbiterThread::Start(arbiter).value();
  ASSERT_TRUE(thread->SubmitRead(1, "web", kLong).ok());
  arbiter->AwaitCalls(1);
  ASSERT_TRUE(thread->SubmitRead(2, "db", kLong).ok());
  thread.reset();
  const std::weak_ptr<GatedArbiter> watch = arbiter;
  EXPECT_GT(watch.use_count(), 1) << "the hanging call must keep its arbiter";
  arbiter->Permit(10);
  const Deadline deadline(kLong);
  while (watch.use_count() > 1 && !deadline.Passed()) deadline.Pause(absl::Milliseconds(1));
  EXPECT_EQ(watch.use_count(), 1);
  EXPECT_THAT(arbiter->calls(), ElementsAre("read web"));
}

TEST_F(ArbiterThreadTest, ManyCallsOfManyGroupsAreEachAnsweredOnce) {
  constexpr size_t kRounds = 200;
  constexpr size_t kGroups = 5;
  arbiter_->Permit(kRounds * kGroups);
  for (size_t round = 0; round < kRounds; ++round) {
    for (size_t group = 0; group < kGroups; ++group) {
      ASSERT_TRUE(
          thread_->SubmitRead(round * kGroups + group, absl::StrCat("g", group), kLong).ok());
    }
    for (size_t group = 0; group < kGroups; ++group) {
      EXPECT_EQ(Await().id, round * kGroups + group);
    }
  }
  EXPECT_FALSE(thread_->Pop().has_value());
}

}  // namespace
}  // namespace haven
