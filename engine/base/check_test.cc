// SPDX-License-Identifier: Apache-2.0
#include "engine/base/check.h"

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

enum class Phase : uint8_t { kRun = 3, kSuspend = 7 };

struct Opaque {
  bool operator==(const Opaque&) const { return false; }
};

TEST(CheckTest, PassesAndEvaluatesOperandsOnce) {
  int evaluated = 0;
  HAVEN_CHECK(++evaluated == 1) << "never built";
  HAVEN_CHECK_EQ(++evaluated, 2);
  HAVEN_CHECK_NE(++evaluated, 2);
  HAVEN_CHECK_LT(++evaluated, 5);
  HAVEN_CHECK_LE(++evaluated, 5);
  HAVEN_CHECK_GT(++evaluated, 5);
  HAVEN_CHECK_GE(++evaluated, 7);
  EXPECT_EQ(evaluated, 7);
}

TEST(CheckTest, MessageIsNotEvaluatedOnSuccess) {
  int evaluated = 0;
  HAVEN_CHECK(true) << ++evaluated;
  HAVEN_CHECK_EQ(1, 1) << ++evaluated;
  HAVEN_CHECK_OK(absl::OkStatus()) << ++evaluated;
  EXPECT_EQ(evaluated, 0);
}

TEST(CheckTest, BindsToItsOwnIf) {
  bool other_branch = false;
  if (false)
    HAVEN_CHECK(true);
  else
    other_branch = true;
  EXPECT_TRUE(other_branch);
}

TEST(CheckTest, IntegersCompareByValueWhateverTheirSign) {
  const int64_t minus_one = -1;
  const uint64_t max = std::numeric_limits<uint64_t>::max();
  HAVEN_CHECK_NE(minus_one, max);
  HAVEN_CHECK_LT(minus_one, max);
  HAVEN_CHECK_LT(-1, size_t{0});
  HAVEN_CHECK_EQ(std::string("abc").size(), 3);
}

TEST(CheckTest, WorksOnPointersEnumsBoolsAndStrings) {
  const int value = 1;
  HAVEN_CHECK_NE(&value, nullptr);
  HAVEN_CHECK_EQ(Phase::kRun, Phase::kRun);
  HAVEN_CHECK_EQ(true, true);
  HAVEN_CHECK_EQ(std::string("epoch"), "epoch");
}

TEST(CheckDeathTest, NamesPlaceExpressionAndMessage) {
  EXPECT_DEATH(HAVEN_CHECK(2 < 1) << "guest=" << 7,
               "FATAL check: engine/base/check_test.cc:[0-9]+ check failed: 2 < 1 guest=7");
}

TEST(CheckDeathTest, PrintsBothValues) {
  const uint64_t got = 5;
  EXPECT_DEATH(HAVEN_CHECK_EQ(got, 4) << "epoch", "got == 4 \\(5 vs\\. 4\\) epoch");
  EXPECT_DEATH(HAVEN_CHECK_NE(got, 5u), "got != 5u \\(5 vs\\. 5\\)");
  EXPECT_DEATH(HAVEN_CHECK_LT(got, 5u), "got < 5u \\(5 vs\\. 5\\)");
  EXPECT_DEATH(HAVEN_CHECK_LE(got, -1), "got <= -1 \\(5 vs\\. -1\\)");
  EXPECT_DEATH(HAVEN_CHECK_GT(got, 5u), "got > 5u \\(5 vs\\. 5\\)");
  EXPECT_DEATH(HAVEN_CHECK_GE(got, 6u), "got >= 6u \\(5 vs\\. 6\\)");
}

TEST(CheckDeathTest, PrintsBytesAndEnumsAsNumbersAndCopesWithOpaqueTypes) {
  EXPECT_DEATH(HAVEN_CHECK_EQ(uint8_t{65}, uint8_t{66}), "\\(65 vs\\. 66\\)");
  EXPECT_DEATH(HAVEN_CHECK_EQ(Phase::kRun, Phase::kSuspend), "\\(3 vs\\. 7\\)");
  EXPECT_DEATH(HAVEN_CHECK_EQ(Opaque(), Opaque()), "a value without <<");
  const int* none = nullptr;
  EXPECT_DEATH(HAVEN_CHECK_NE(none, nullptr), "none != nullptr \\(0 vs\\. nullptr\\)");
}

TEST(CheckDeathTest, OkPrintsTheStatus) {
  EXPECT_DEATH(HAVEN_CHECK_OK(absl::DataLossError("chunk 3")), "DATA_LOSS: chunk 3");
  const absl::StatusOr<int> missing = absl::NotFoundError("no register");
  EXPECT_DEATH(HAVEN_CHECK_OK(missing) << "after",
               "missing is OK \\(NOT_FOUND: no register\\) after");
}

}  // namespace
}  // namespace haven
