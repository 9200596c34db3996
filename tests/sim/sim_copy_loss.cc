// SPDX-License-Identifier: Apache-2.0
//
// Copies that wait on a backup are lost there: somebody destroys one, or the process that keeps it
// dies.
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
    scheduler_.At(own.Between(0, faults_over_ns_), [this, which, destroyed] {
      if (faults_over_) return;
      for (int host = 0; host < 2; ++host) {
        const std::shared_ptr<SimSession>& session = hosts_[host].session;
        if (session == nullptr || !session->LoseCopy(which, destroyed)) continue;
        ++result_.copies_lost;
        Trace(absl::StrCat("host ", host, destroyed ? " a copy is destroyed" : " a copy is left"));
      }
    });
  }
}

}  // namespace haven
