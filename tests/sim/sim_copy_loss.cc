// SPDX-License-Identifier: Apache-2.0
//
// Copies that wait on a backup are lost there: somebody destroys one, or the process that keeps it
// dies.
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

// Draws of its own, so that the rest of a seed is what it is without these.
void SimWorld::LoseCopies() {
  constexpr int kLosses = 3;
  Random own(seed_ * 2 + 1 + (uint64_t{1} << 63));
  for (int i = 0; i < kLosses; ++i) {
    const bool destroyed = own.Chance(1, 2);
    const uint64_t which = own.Next();
    scheduler_.At(own.Between(0, faults_over_ns_), [=, this] { LoseCopy(which, destroyed); });
  }
  if (own.Chance(1, 2)) late_promotable_ns_ = own.Between(10, 300) * kNsPerMs;
}

void SimWorld::LoseCopy(uint64_t which, bool destroyed) {
  if (faults_over_) return;
  for (int host = 0; host < 2; ++host) {
    const std::shared_ptr<SimSession>& session = hosts_[host].session;
    if (session == nullptr || !session->LoseCopy(which, destroyed)) continue;
    ++result_.copies_lost;
    Trace(absl::StrCat("host ", host, destroyed ? " a copy is destroyed" : " a copy is left"));
  }
}

// By chance alone one seed in ten thousand loses a copy while the primary's request for
// `promotable` is under way, and then the primary, as soon as that is granted.
void SimWorld::LoseCopyBeforePromotable() {
  InjectLasting(SimFault::kArbiterCutPrimary, std::exchange(late_promotable_ns_, 0));
  LoseCopy(seed_, /*destroyed=*/false);
  constexpr ProtocolState kGranted = StateOf(Primary::Role::kProtected);
  ambushes_.push_back({SimFault::kPrimaryHostCrash, kGranted, /*eager=*/true, /*leads=*/true});
  ambushed_ |= ProtocolStates{1} << kGranted;
}

}  // namespace haven
