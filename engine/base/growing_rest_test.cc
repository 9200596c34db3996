// SPDX-License-Identifier: Apache-2.0
#include "engine/base/growing_rest.h"

#include "gtest/gtest.h"

namespace haven {
namespace {

// Occasions that are left out until the next attempt, which is not.
uint32_t LeftOut(GrowingRest& rest) {
  uint32_t left_out = 0;
  while (rest.Rests()) ++left_out;
  return left_out;
}

TEST(GrowingRestTest, NothingIsLeftOutBeforeAnAttemptInVain) {
  GrowingRest rest(3, 20);
  EXPECT_TRUE(rest.over());
  EXPECT_EQ(LeftOut(rest), 0u);
}

TEST(GrowingRestTest, GrowsUpToTheLongest) {
  GrowingRest rest(3, 20);
  for (const uint32_t expected : {3, 7, 15, 20, 20}) {
    rest.Begin();
    EXPECT_FALSE(rest.over());
    EXPECT_EQ(LeftOut(rest), expected);
  }
}

TEST(GrowingRestTest, BeginsAnewOnceItWasWorthIt) {
  GrowingRest rest(1, 63);
  rest.Begin();
  rest.Begin();
  rest.End();
  EXPECT_TRUE(rest.over());
  rest.Begin();
  EXPECT_EQ(LeftOut(rest), 1u);
}

}  // namespace
}  // namespace haven
