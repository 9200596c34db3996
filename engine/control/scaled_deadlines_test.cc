// SPDX-License-Identifier: Apache-2.0
#include "engine/control/scaled_deadlines.h"

#include "engine/base/clock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kGiBPages = kGiB / 4096;

TEST(ScaleDeadlinesTest, ASmallGuestHasThoseOfTheConfiguration) {
  const PrimaryConfig config;
  const PrimaryConfig scaled = ScaleDeadlines(config, kGiBPages / 2, kGiB / 4);
  EXPECT_EQ(scaled.session_deadline_ns, config.session_deadline_ns);
  EXPECT_EQ(scaled.progress_ns, config.progress_ns);
}

// Four fifths of it are what an attempt may take (EngineLoop), and the copy of one guest may take
// 60 s and a second for each GiB (XenReplicaOptions).
TEST(ScaleDeadlinesTest, TheBackupHasTheTimeToBuildACopyOfEachGuest) {
  PrimaryConfig config;
  for (const uint32_t guests : {1, 2, 5, 16}) {
    for (const uint64_t gib : {0, 1, 64, 1024}) {
      config.domains = guests;
      const PrimaryConfig scaled = ScaleDeadlines(config, gib * kGiBPages, kGiB);
      const int64_t builds_ns = (60 * int64_t{guests} + static_cast<int64_t>(gib)) * kNsPerSecond;
      EXPECT_GE(scaled.session_deadline_ns * 4 / 5, builds_ns) << guests << " guests, " << gib;
    }
  }
}

TEST(ScaleDeadlinesTest, ALargeEpochMayBeVerifiedBeforeAnythingMoves) {
  EXPECT_EQ(ScaleDeadlines({}, 0, 4 * kGiB).progress_ns, 8 * kNsPerSecond);
}

}  // namespace
}  // namespace haven
