// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/phase_times.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(PhaseTimesTest, NamesFollowTheOrderOfAnEpoch) {
  EXPECT_STREQ(PhaseName(Phase::kSuspend), "suspend");
  EXPECT_STREQ(PhaseName(Phase::kBitmap), "bitmap");
  EXPECT_STREQ(PhaseName(Phase::kCommit), "commit");
}

TEST(PhaseTimesTest, SummarizesEachPhaseOnItsOwn) {
  const auto times = std::make_unique<PhaseTimes>();
  for (int64_t ns = 1; ns <= 100; ++ns) times->Record(Phase::kCopy, ns);
  times->Record(Phase::kState, 42);
  const PhaseSummaries summaries = times->Summarize();

  const PhaseSummary& copy = summaries[static_cast<size_t>(Phase::kCopy)];
  EXPECT_EQ(copy.count, 100u);
  EXPECT_EQ(copy.last_ns, 100u);
  EXPECT_EQ(copy.p50_ns, 50u);
  EXPECT_EQ(copy.p99_ns, 99u);
  EXPECT_EQ(copy.max_ns, 100u);
  EXPECT_EQ(summaries[static_cast<size_t>(Phase::kState)].count, 1u);
  EXPECT_EQ(summaries[static_cast<size_t>(Phase::kState)].p50_ns, 42u);
  EXPECT_EQ(summaries[static_cast<size_t>(Phase::kSuspend)].count, 0u);
}

}  // namespace
}  // namespace haven
