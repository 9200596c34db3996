// SPDX-License-Identifier: Apache-2.0
#include "engine/control/shm_pair_testing.h"

#include "gtest/gtest.h"

namespace haven {

void ShmPair::StartBackup() {
  backup_.emplace(backup_transport_, address_, session_options_, factory_, arbiter_);
}

void ShmPair::StartEngine(const std::optional<Register>& current) {
  engine_.emplace(engine_options_, Seams(), current);
}

EngineSeams ShmPair::Seams() {
  EngineSeams seams;
  seams.guests = {{&guest_, &guest_}};
  seams.output = &guest_;
  seams.transport = &engine_transport_;
  seams.arbiter = arbiter_;
  return seams;
}

bool ShmPair::ReleasesMore(uint64_t steps) {
  const uint64_t before = wire_.released;
  return WaitFor([&] { return wire_.released >= before + steps; });
}

bool ShmPair::IsPromoted() {
  return WaitFor([&] { return backup_->newest_result().has_value(); }) &&
         backup_->newest_result()->end == BackupEnd::kPromoted;
}

void ShmPair::ExpectWholePromotion() {
  ASSERT_TRUE(IsPromoted());
  const ReplicaDomain& replica = *backup_->newest().replicas()[0];
  const uint64_t step = PromotedStep(replica);
  EXPECT_GE(step, wire_.released) << "output of a later step has left";
  EXPECT_TRUE(IsTestStep(replica.memory(), step));
}

}  // namespace haven
