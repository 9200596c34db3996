// SPDX-License-Identifier: Apache-2.0
//
// Every event of every simulated process comes by here: which states the protocol is in, which
// fault has met them, and who dies now.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// An ambush that is not eager does not always strike at the first occasion.
constexpr uint64_t kOccasions = 3;

}  // namespace

// The seed names a kind of process and one of its events: over many seeds each process dies at each
// of its events.
void SimWorld::OnEvent(SimProcess process, int host) {
  if (process == victim_ && victim_events_ > 0 && --victim_events_ == 0) {
    result_.crashed = true;
    Trace(absl::StrCat("host ", host, " the process that the seed names dies"));
    CrashProcess(process, host);
  }
  Look();
  actor_ = host;
}

ProtocolStates SimWorld::StatesAt(int host) const {
  const Host& here = hosts_[host];
  ProtocolStates states = 0;
  if (here.session != nullptr) states |= SetOf(here.session->driver().backup().state());
  if (here.guard == nullptr) {
    return here.record.has_value() && here.session == nullptr
               ? states | SetOf(SimGuardState::kAbsent)
               : states;
  }
  if (const SimEngine* const engine = EngineAt(host)) {
    const Primary& primary = engine->driver().primary();
    return states | SetOf(primary.role()) | SetOf(primary.phase());
  }
  const SimGuardState guard = here.guard->state();
  return guard == SimGuardState::kCount ? states : states | SetOf(guard);
}

// What a fault at this host meets: where there is a copy of the guests, not what becomes of another
// copy, since one of the two is deposed.
ProtocolStates SimWorld::StatesNear(int host) const {
  const Host& here = hosts_[host];
  const bool copy = here.copy != nullptr || here.record.has_value();
  const ProtocolStates others = StatesAt(1 - host);
  return StatesAt(host) | (copy && here.session == nullptr ? others & kSessionStates : others);
}

// Faults that last meet every state that comes while they do.
void SimWorld::Look() {
  const ProtocolStates states = States();
  const ProtocolStates entered = states & ~std::exchange(seen_, states);
  if (entered != 0) {
    for (size_t i = static_cast<size_t>(kFirstLasting); i < static_cast<size_t>(kFirstByChance);
         ++i) {
      const SimFault fault = static_cast<SimFault>(i);
      if (InForce(fault)) result_.coverage.Count(fault, entered);
    }
  }
  if (late_promotable_ns_ > 0 && !faults_over_ && (entered & SetOf(Primary::Role::kArming)) != 0) {
    LoseCopyBeforePromotable();
  }
  // Here a guest stands for longer than the turn in which it is captured.
  if (guests_.meddler.has_value() && (entered & SetOf(Primary::Phase::kStopped)) != 0) {
    scheduler_.After(guests_.meddler->Between(0, kNsPerMs), [this] { LetGuestsGo(); });
  }
  if ((states & ambushed_) == 0 || faults_over_ || looking_) return;
  looking_ = true;
  for (size_t i = 0; i < ambushes_.size(); ++i) {
    const Ambush ambush = ambushes_[i];
    const ProtocolStates state = ProtocolStates{1} << ambush.state;
    if ((states & state) == 0) continue;
    if (!ambush.eager && !random_.Chance(1, kOccasions)) continue;
    const int near = (StatesAt(0) & state) != 0 ? 0 : 1;
    // Without anything to strike it waits for another occasion.
    if (!Inject(ambush.fault, near, ambush.leads)) continue;
    Trace(absl::StrCat("ambush in ", ProtocolStateName(ambush.state)));
    ambushes_.erase(ambushes_.begin() + static_cast<ptrdiff_t>(i));
    break;
  }
  ambushed_ = 0;
  for (const Ambush& ambush : ambushes_) ambushed_ |= ProtocolStates{1} << ambush.state;
  looking_ = false;
}

bool SimWorld::InForce(SimFault fault) const {
  return scheduler_.now_ns() < in_force_until_ns_[static_cast<size_t>(fault)];
}

void SimWorld::StrikeIn(SimFault fault, ProtocolStates states) {
  result_.coverage.Count(fault, states);
  if (trace_) Trace(absl::StrCat("fault ", SimFaultName(fault)));
}

void SimWorld::Tell(const char* who, const char* state, const char* cause) {
  result_.coverage.Tell(absl::StrCat(who, ", ", state, ": ", cause));
}

}  // namespace haven
