// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/register_client.h"

#include <vector>

#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr int64_t kRetryNs = 50;

class RegisterClientTest : public ::testing::Test, public ArbiterPort, public IdSource {
 protected:
  void SubmitRead() override { ++reads_; }
  void SubmitChange(const RegisterRequest& request) override { changes_.push_back(request); }
  uint64_t NextId() override { return ++ids_; }

  static Register Value(Term term) { return {.term = term, .owner = "a.0000000000000001"}; }
  static RegisterAnswer Unknown() {
    return {.verdict = Verdict::kUnknown, .current = {}, .cause = absl::UnavailableError("cut")};
  }
  static RegisterAnswer Answered(Verdict verdict, const Register& current) {
    return {.verdict = verdict, .current = current, .cause = {}};
  }

  int reads_ = 0;
  std::vector<RegisterRequest> changes_;
  uint64_t ids_ = 0;
  RegisterClient client_{*this, *this, kRetryNs};
};

TEST_F(RegisterClientTest, AnUnansweredChangeIsRepeatedWithTheSameId) {
  client_.Change(RegisterPurpose::kSolo, Value(1), Value(1), 0);
  EXPECT_FALSE(client_.OnAnswer(Unknown(), 10).has_value());
  EXPECT_TRUE(client_.change_pending());
  EXPECT_EQ(client_.last_cause().message(), "cut");
  EXPECT_EQ(client_.NextWakeNs(), 10 + kRetryNs);
  client_.OnTick(10 + kRetryNs - 1);
  EXPECT_EQ(changes_.size(), 1u);
  client_.OnTick(10 + kRetryNs);
  ASSERT_EQ(changes_.size(), 2u);
  EXPECT_NE(changes_[0].desired.stamp, 0u);
  EXPECT_EQ(changes_[0].desired, changes_[1].desired);
  const auto outcome = client_.OnAnswer(Answered(Verdict::kGranted, changes_[1].desired), 100);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->purpose, RegisterPurpose::kSolo);
  EXPECT_EQ(client_.known(), changes_[1].desired);
  EXPECT_FALSE(client_.busy());
  EXPECT_TRUE(client_.last_cause().ok());
}

TEST_F(RegisterClientTest, EachChangeHasAnIdOfItsOwn) {
  client_.Change(RegisterPurpose::kSolo, Value(1), Value(1), 0);
  client_.OnAnswer(Answered(Verdict::kDenied, Value(2)), 1);
  client_.Change(RegisterPurpose::kSolo, Value(2), Value(2), 2);
  EXPECT_NE(changes_[0].desired.stamp, changes_[1].desired.stamp);
}

TEST_F(RegisterClientTest, ADenialShowsWhatThereIs) {
  client_.Change(RegisterPurpose::kPromote, Value(1), Value(2), 0);
  const auto outcome = client_.OnAnswer(Answered(Verdict::kDenied, Value(9)), 1);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->verdict, Verdict::kDenied);
  EXPECT_EQ(client_.known()->term, 9u);
}

// The answer to the read may be older than the change, so it is not believed.
TEST_F(RegisterClientTest, AChangeOvertakesAReadAndItsAnswerIsNotUsed) {
  client_.Read(0);
  client_.Change(RegisterPurpose::kSolo, Value(1), Value(1), 1);
  EXPECT_TRUE(changes_.empty()) << "one request at a time";
  EXPECT_FALSE(client_.OnAnswer(Answered(Verdict::kGranted, Value(5)), 2).has_value());
  EXPECT_FALSE(client_.known().has_value());
  EXPECT_EQ(changes_.size(), 1u);
}

TEST_F(RegisterClientTest, ARunningReadIsNotAskedTwice) {
  client_.Read(0);
  client_.Read(1);
  EXPECT_EQ(reads_, 1);
}

TEST_F(RegisterClientTest, AReadSaysThatThereIsNoRegister) {
  client_.Adopt(Value(3));
  client_.Read(0);
  const auto outcome =
      client_.OnAnswer({.verdict = Verdict::kGranted, .current = {}, .cause = {}}, 1);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_FALSE(client_.known().has_value());
}

TEST_F(RegisterClientTest, TwoChangesAtOnceAreABug) {
  client_.Change(RegisterPurpose::kSolo, Value(1), Value(1), 0);
  EXPECT_DEATH(client_.Change(RegisterPurpose::kNone, Value(1), Value(1), 0), "two changes");
  EXPECT_DEATH(client_.Read(0), "unresolved");
}

}  // namespace
}  // namespace haven
