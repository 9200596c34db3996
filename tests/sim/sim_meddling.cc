// SPDX-License-Identifier: Apache-2.0
//
// Others let guests go on that the engine has stopped: a toolstack that had saved one, for example.
#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

void SimWorld::Meddle() {
  constexpr int kTimes = 20;
  for (int i = 0; i < kTimes; ++i) {
    scheduler_.At(guests_.meddler->Between(0, faults_over_ns_), [this] { LetGuestsGo(); });
  }
}

void SimWorld::LetGuestsGo() {
  if (faults_over_) return;
  for (const Host& host : hosts_) {
    if (host.copy == nullptr) continue;
    const uint64_t before = guests_.let_go;
    for (const auto& guest : host.copy->guests()) {
      if (guests_.meddler->Chance(1, 2)) guest->LetGo();
    }
    if (guests_.let_go != before) {
      Trace(absl::StrCat(guests_.let_go - before, " stopped guests are let go on by others"));
    }
  }
}

}  // namespace haven
