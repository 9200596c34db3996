// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_rules.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

Register Value(RequestId stamp) { return {3, "host-a", RegisterMode::kNone, 0, true, stamp}; }

TEST(GroupNameTest, AcceptsWhatIsSafeEverywhere) {
  for (const absl::string_view name : {"g", "web-1", "Web.Front_end", "0", "a..b"}) {
    EXPECT_TRUE(ValidateGroupName(name).ok()) << name;
  }
  EXPECT_TRUE(ValidateGroupName(std::string(63, 'g')).ok());
}

TEST(GroupNameTest, RefusesWhatCouldBeMisread) {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../g"), std::string("a/b"),
        std::string("-g"), std::string("_g"), std::string("a b"), std::string("a\n"),
        std::string("a\0b", 3), std::string("\xc3\xa4"), std::string(64, 'g'),
        std::string(1 << 20, 'g')}) {
    const absl::Status status = ValidateGroupName(name);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_LT(status.message().size(), 400u);
  }
}

TEST(RequestRulesTest, AcceptsCreationsAndChanges) {
  EXPECT_TRUE(ValidateRequest({std::nullopt, Value(1)}).ok());
  EXPECT_TRUE(ValidateRequest({Value(1), Value(2)}).ok());
  Register taken = Value(2);
  taken.owner = "host-b";
  taken.term = 4;
  EXPECT_TRUE(ValidateRequest({Value(1), taken}).ok());
}

TEST(RequestRulesTest, RefusesWhatNoArbiterMayCarryOut) {
  const auto message = [](const Register& expected, const Register& desired) {
    const absl::Status status = ValidateRequest({expected, desired});
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(message(Value(1), Value(0)), HasSubstr("must not be 0"));
  EXPECT_THAT(message(Value(0), Value(1)), HasSubstr("must not be 0"));
  EXPECT_THAT(message(Value(1), Value(1)), HasSubstr("every change needs a new one"));
  Register desired = Value(2);
  desired.term = 2;
  EXPECT_THAT(message(Value(1), desired), HasSubstr("takes the term back from 3 to 2"));
  desired = Value(2);
  desired.owner = "host-b";
  EXPECT_THAT(message(Value(1), desired), HasSubstr("a new owner needs a new term"));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateRequest({std::nullopt, Value(0)})));
}

TEST(DecideChangeTest, WritesOnlyOverTheExpectedValue) {
  EXPECT_EQ(DecideChange(Value(1), {Value(1), Value(2)}).value(), ChangeStep::kWrite);
  EXPECT_EQ(DecideChange(std::nullopt, {std::nullopt, Value(2)}).value(), ChangeStep::kWrite);
  EXPECT_EQ(DecideChange(Value(3), {Value(1), Value(2)}).value(), ChangeStep::kDenied);
  EXPECT_EQ(DecideChange(std::nullopt, {Value(1), Value(2)}).value(), ChangeStep::kDenied);
  EXPECT_EQ(DecideChange(Value(1), {std::nullopt, Value(2)}).value(), ChangeStep::kDenied);
}

TEST(DecideChangeTest, KnowsItsOwnStamp) {
  EXPECT_EQ(DecideChange(Value(2), {Value(1), Value(2)}).value(), ChangeStep::kGranted);
  EXPECT_EQ(DecideChange(Value(2), {std::nullopt, Value(2)}).value(), ChangeStep::kGranted);
  Register other = Value(2);
  other.owner = "host-b";
  EXPECT_TRUE(absl::IsDataLoss(DecideChange(other, {Value(1), Value(2)}).status()));
}

TEST(AnswerTest, ARefusalIsADenialAnOldGrantOrAContradiction) {
  const RegisterRequest request{Value(1), Value(2)};
  EXPECT_EQ(AnswerAfterRefusal(Value(3), request)->verdict, Verdict::kDenied);
  EXPECT_EQ(AnswerAfterRefusal(Value(3), request)->current, Value(3));
  EXPECT_EQ(AnswerAfterRefusal(Value(2), request)->verdict, Verdict::kGranted);
  EXPECT_TRUE(absl::IsInternal(AnswerAfterRefusal(Value(1), request).status()));
}

TEST(AnswerTest, AnErrorIsUnknownAndNamesArbiterAndGroup) {
  const RegisterAnswer answer =
      AnswerOrUnknown("file:/shared", "web", absl::DataLossError("the disk is wet"));
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_EQ(answer.current, std::nullopt);
  EXPECT_TRUE(absl::IsDataLoss(answer.cause));
  EXPECT_EQ(answer.cause.message(), "arbiter file:/shared, group web: the disk is wet");
  EXPECT_EQ(AnswerOrUnknown("x", "y", GrantedAnswer(Value(1))).verdict, Verdict::kGranted);
}

TEST(AbsentTest, HasAWordOfItsOwn) {
  EXPECT_EQ(FormatRegisterOrAbsent(std::nullopt), "absent");
  EXPECT_EQ(ParseRegisterOrAbsent("absent").value(), std::nullopt);
  EXPECT_EQ(ParseRegisterOrAbsent(FormatRegister(Value(1))).value(), Value(1));
  EXPECT_FALSE(ParseRegisterOrAbsent("").ok());
  EXPECT_FALSE(ParseRegisterOrAbsent("Absent").ok());
}

}  // namespace
}  // namespace haven
