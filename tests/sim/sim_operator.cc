// SPDX-License-Identifier: Apache-2.0
//
// What outlives the guards of a simulated host (its record of the group, its guests), and who
// starts guards: the service manager and the operator.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "tests/sim/sim_world.h"

namespace haven {

// On the disk when it returns OK; the process may die before or after it is.
absl::Status SimWorld::SavePhase(int host, GroupPhase phase, SimLife& life) {
  SimRecord& record = *hosts_[host].record;
  if (record.phase == phase) return absl::OkStatus();
  if (guests_.chances.Happens(SimGuestFault::kRecordFails)) {
    return absl::ResourceExhaustedError("simulated: the record can not be written");
  }
  record.phase = phase;
  return life.Acts() ? absl::OkStatus() : SimDead();
}

// RecordedPhase::Protecting (engine/cli): before output is held for the first time.
absl::Status SimWorld::NoteSession(int host, SimLife& life) {
  if (!life.Acts()) return SimDead();
  if (HAVEN_MUTANT(kRecordTooLate)) return absl::OkStatus();
  const bool is_new = hosts_[host].record->phase == GroupPhase::kNew;
  return is_new ? SavePhase(host, GroupPhase::kProtecting, life) : absl::OkStatus();
}

// SessionProcess::SaveRecord (engine/cli): before a copy can run here.
absl::Status SimWorld::Announce(int host, const std::string& owner) {
  HAVEN_CHECK(!hosts_[host].record.has_value());
  if (guests_.chances.Happens(SimGuestFault::kRecordFails)) {
    return absl::ResourceExhaustedError("simulated: the record can not be written");
  }
  hosts_[host].record = SimRecord{owner, GroupPhase::kProtecting};
  return absl::OkStatus();
}

// The service manager: `haven-engine guard --wait`.
void SimWorld::Supervise(int host) {
  if (std::exchange(hosts_[host].supervised, true)) return;
  scheduler_.After(random_.Between(5, 300) * kNsPerMs, [this, host] {
    Host& here = hosts_[host];
    here.supervised = false;
    if (!here.up || !here.record.has_value() || here.guard != nullptr) return;
    if (here.session != nullptr) return Supervise(host);  // It has the lock.
    StartGuard(host);
  });
}

void SimWorld::StartGuard(int host) {
  HAVEN_CHECK(hosts_[host].guard == nullptr && hosts_[host].session == nullptr);
  hosts_[host].guard = std::make_shared<SimGuard>(*this, host);
  const std::shared_ptr<SimGuard> guard = hosts_[host].guard;
  guard->Start();
}

// `haven-engine protect` of guests that run here and that the host knows nothing of.
void SimWorld::Protect(int host) {
  Host& here = hosts_[host];
  here.copy->Rename(NewOwner(host));
  accounted_.insert(here.copy->owner());
  here.record = SimRecord{here.copy->owner(), GroupPhase::kNew};
  StartGuard(host);
}

// The guests run on, or what is left of them. Some time later the operator protects the group
// again: as it runs on, or booted anew.
void SimWorld::GoOnUnprotected(int host) {
  if (hosts_[host].copy->AnyEnded()) {
    RemoveCopy(host);
    return Reboot();
  }
  scheduler_.After(100 * kNsPerMs, [this, host, copy = hosts_[host].copy->copy()] {
    const Host& here = hosts_[host];
    if (here.copy == nullptr || here.copy->copy() != copy) return;
    if (here.copy->AnyEnded()) {
      RemoveCopy(host);
      return Reboot();
    }
    Protect(host);
  });
}

void SimWorld::RemoveCopy(int host) {
  Host& here = hosts_[host];
  if (here.copy == nullptr) return;
  Trace(absl::StrCat("host ", host, " copy ", here.copy->owner(), " is gone"));
  for (const auto& guest : here.copy->guests()) HAVEN_CHECK_OK(guest->Destroy());
  HAVEN_CHECK_OK(here.copy->output().Discard());
  here.copy.reset();
  here.unrun.reset();
  here.stopped_since_ns.reset();
}

void SimWorld::BootGuests(int host) {
  hosts_[host].copy = MakeGroup(host, NewOwner(host));
  Trace(absl::StrCat("host ", host, " boots the guests as ", hosts_[host].copy->owner()));
  checks_.OnFirstCopy(hosts_[host].copy->copy(), config_.guests);
  Protect(host);
}

// The operator boots guests that have ended, on the host that owned them last, once they neither
// run anywhere nor may do so yet.
void SimWorld::Reboot() {
  if (std::exchange(rebooting_, true)) return;
  scheduler_.After(200 * kNsPerMs, [this] {
    rebooting_ = false;
    const std::optional<Register>& truth = arbiter_.truth();
    const int host = truth.has_value() && truth->owner[0] == HostLetter(1) ? 1 : 0;
    bool busy = !hosts_[host].up;
    for (const Host& one : hosts_) {
      busy |= one.copy != nullptr || one.session != nullptr || one.record.has_value();
    }
    if (busy) return Reboot();
    if (!truth.has_value() || (truth->running && truth->mode != RegisterMode::kPromotable)) {
      return BootGuests(host);
    }
    lost_ = true;
  });
}

}  // namespace haven
