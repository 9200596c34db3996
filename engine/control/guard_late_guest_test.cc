// SPDX-License-Identifier: Apache-2.0
//
// Guests that answer late to what a dead engine has asked them.
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/control/guard_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

TEST_F(GuardTest, AGuestThatStopsLateDoesNotStandUntilTheArbiterAnswers) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  arbiter_->refusal = absl::UnavailableError("no quorum");
  late_looks_ = 3;
  int reads = 0;
  arbiter_->on_read = [&] {
    if (++reads > 2 && (went_on_ || reads > 200)) stop_.Signal();
  };
  ASSERT_TRUE(Run("exit 44").ok());
  EXPECT_THAT(notes_, Contains("goes on"));
  EXPECT_THAT(notes_, Not(Contains("open")));
}

TEST_F(GuardTest, AProtectionEndsOnlyWhenItsGuestsRunForCertain) {
  SetRegister(kOwner, RegisterMode::kPromotable);
  record_.phase = GroupPhase::kEnding;
  on_open_ = [&] { late_looks_ = 3; };
  ASSERT_TRUE(Run("exit 40").ok());
  EXPECT_THAT(notes_,
              ElementsAre("attach", "resume", "attach", "resume", "open", "remove", "goes on"));
  EXPECT_FALSE(directory_.Exists(kGroup));
}

TEST_F(GuardTest, AGuestThatStopsAfterAStoppedGuardsEngineGoesOn) {
  SetRegister(kOwner, RegisterMode::kSolo);
  const std::string ready = folder_.File("ready");
  on_attach_ = [&] { late_looks_ = Count("open") > 0 ? 3 : 0; };
  std::thread operator_thread([&] {
    EXPECT_TRUE(WaitFor([&] { return access(ready.c_str(), F_OK) == 0; }));
    stop_.Signal();
  });
  const absl::StatusOr<GuardEnd> end = Run(absl::StrCat("touch ", ready, "; exec sleep 1000"));
  operator_thread.join();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_THAT(notes_, ElementsAre("attach", "resume", "open", "attach", "resume", "goes on"));
}

}  // namespace
}  // namespace haven
