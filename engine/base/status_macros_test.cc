// SPDX-License-Identifier: Apache-2.0
#include "engine/base/status_macros.h"

#include <map>
#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace haven {
namespace {

absl::Status PassOn(const absl::Status& status, bool& reached_end) {
  HAVEN_RETURN_IF_ERROR(status);
  reached_end = true;
  return absl::OkStatus();
}

absl::StatusOr<int> AddBoth(const absl::StatusOr<int>& a, const absl::StatusOr<int>& b) {
  HAVEN_ASSIGN_OR_RETURN(const int first, a);
  int second = 0;
  HAVEN_ASSIGN_OR_RETURN(second, b);
  return first + second;
}

absl::StatusOr<std::unique_ptr<int>> MakeUnique(bool fail) {
  if (fail) return absl::ResourceExhaustedError("no memory");
  return std::make_unique<int>(5);
}

absl::StatusOr<int> ReadUnique(bool fail) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<int> value, MakeUnique(fail));
  return *value;
}

absl::StatusOr<int> CommaInTheExpression() {
  HAVEN_ASSIGN_OR_RETURN(const auto sizes, (absl::StatusOr<std::map<int, int>>({{1, 2}, {3, 4}})));
  return static_cast<int>(sizes.size());
}

TEST(ReturnIfErrorTest, ReturnsTheErrorAndGoesOnWhenOk) {
  bool reached_end = false;
  EXPECT_EQ(PassOn(absl::DataLossError("x"), reached_end), absl::DataLossError("x"));
  EXPECT_FALSE(reached_end);
  EXPECT_TRUE(PassOn(absl::OkStatus(), reached_end).ok());
  EXPECT_TRUE(reached_end);
}

TEST(AssignOrReturnTest, DeclaresOrAssignsAndReturnsTheFirstError) {
  EXPECT_EQ(*AddBoth(2, 3), 5);
  EXPECT_EQ(AddBoth(absl::AbortedError("a"), absl::AbortedError("b")).status().message(), "a");
  EXPECT_EQ(AddBoth(1, absl::AbortedError("b")).status().message(), "b");
}

TEST(AssignOrReturnTest, TakesMoveOnlyValuesAndCommas) {
  EXPECT_EQ(*ReadUnique(false), 5);
  EXPECT_EQ(ReadUnique(true).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*CommaInTheExpression(), 2);
}

}  // namespace
}  // namespace haven
