// SPDX-License-Identifier: Apache-2.0
//
// Copies of the group on the simulated hosts: what their guards and operators do (engine/control/
// guard.h).
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "tests/sim/sim_world.h"

namespace haven {

void SimWorld::StartGuard(int host, std::shared_ptr<SimGroup> group) {
  auto guard = std::make_unique<Guard>();
  guard->world = this;
  guard->host = host;
  guard->group = std::move(group);
  HAVEN_CHECK(hosts_[host].guard == nullptr);
  hosts_[host].guard = std::move(guard);
}

void SimWorld::StartEngine(int host, const Register* current) {
  Guard& guard = *hosts_[host].guard;
  guard.engine = std::make_shared<SimEngine>(
      shared_, host, *guard.group, *hosts_[host].clock,
      [this, host](const SimCall& call) { Connect(host, call); },
      [this, host] { OnEngineEnded(host); });
  Trace(absl::StrCat("host ", host, " engine starts for ", guard.group->owner()));
  guard.engine->Start(current);
}

// The guard's way after a grant: output first, then an engine that looks for a backup.
void SimWorld::OpenThenStart(int host, Register current) {
  Guard* guard = hosts_[host].guard.get();
  if (guard == nullptr || !guard->up || guard->engine != nullptr) return;
  if (!guard->group->output().OpenAll().ok()) {
    return scheduler_.After(10 * kNsPerMs, [this, host, current, copy = guard->group->copy()] {
      const std::unique_ptr<Guard>& again = hosts_[host].guard;
      if (again == nullptr || again->group->copy() != copy || again->recovery != nullptr) return;
      OpenThenStart(host, current);
    });
  }
  // That variant's guard goes on with a register that no engine accepts: its output is what counts.
  if (!HAVEN_MUTANT(kGuardOpensWithoutGrant)) StartEngine(host, &current);
}

void SimWorld::StartRecovery(int host, bool deposed) {
  Guard& guard = *hosts_[host].guard;
  if (guard.group->AnyVanished()) {
    // Nothing to attach to: the record goes, and what is left of the group with it.
    RemoveCopy(host);
    return Reboot();
  }
  guard.loop = std::make_unique<SimLoop>(
      scheduler_, *hosts_[host].clock,
      [this, host] {
        Guard& self = *hosts_[host].guard;
        self.recovery->OnTick(hosts_[host].clock->NowNs());
        if (self.recovery->outcome() != Recovery::Outcome::kNotYet) OnRecovered(host);
      },
      [this, host] {
        const std::unique_ptr<Guard>& self = hosts_[host].guard;
        return self == nullptr || self->recovery == nullptr ? kNever : self->recovery->NextWakeNs();
      });
  guard.port = std::make_unique<SimArbiterPort>(
      arbiter_, network_, host, [this, host](const RegisterAnswer& answer) {
        Guard& self = *hosts_[host].guard;
        self.recovery->OnArbiterAnswer(answer, hosts_[host].clock->NowNs());
        self.loop->Wake();
      });
  RecoveryConfig config;
  config.owner = guard.group->owner();
  config.is_new = guard.group->is_new();
  config.arbiter_retry_ns = 30 * kNsPerMs;
  config.poll_ns = 40 * kNsPerMs;
  config.patience_ns = config_.primary.solo_patience_ns;
  config.takeback_ns = 1500 * kNsPerMs;
  guard.recovery = std::make_unique<Recovery>(config, guard, *guard.port, ids_);
  const int64_t now_ns = hosts_[host].clock->NowNs();
  if (deposed) {
    guard.recovery->StartDeposed(now_ns);
  } else {
    guard.recovery->StartAfterCrash(now_ns);
  }
  guard.loop->Wake();
}

void SimWorld::OnRecovered(int host) {
  Guard& guard = *hosts_[host].guard;
  const Recovery::Outcome outcome = guard.recovery->outcome();
  std::optional<Register> value;
  if (outcome == Recovery::Outcome::kOpen) value = guard.recovery->value();
  Bury(std::shared_ptr<SimLoop>(std::move(guard.loop)));
  guard.recovery.reset();
  guard.port.reset();
  if (value.has_value()) return OpenThenStart(host, *value);
  if (outcome == Recovery::Outcome::kAbsent) return StartEngine(host, nullptr);
  RemoveCopy(host);
}

void SimWorld::Guard::ResumeGuests() {
  for (const auto& guest : group->guests()) guest->Resume().IgnoreError();
}

void SimWorld::Guard::StopGuests() {
  for (const auto& guest : group->guests()) guest->Request().IgnoreError();
}

void SimWorld::Guard::DestroyGuests() {
  world->checks_.OnDeposedDestroyed(world->arbiter_.truth(), group->owner());
  world->scheduler_.After(2 * kNsPerMs, [w = world, h = host, copy = group->copy()] {
    const std::unique_ptr<Guard>& self = w->hosts_[h].guard;
    if (self == nullptr || self->group->copy() != copy || self->recovery == nullptr) return;
    if (self->recovery->state() != Recovery::State::kDestroying) return;
    for (const auto& guest : self->group->guests()) HAVEN_CHECK_OK(guest->Destroy());
    HAVEN_CHECK_OK(self->group->output().Discard());
    self->recovery->OnGuestsDestroyed(absl::OkStatus(), w->hosts_[h].clock->NowNs());
    self->loop->Wake();
  });
}

void SimWorld::Guard::Report(const char* cause) {
  world->Trace(absl::StrCat("host ", host, " guard: ", cause));
}

void SimWorld::KillEngine(int host) {
  Guard& guard = *hosts_[host].guard;
  if (guard.engine == nullptr) return;
  CountEpochs(guard.engine->driver());
  Bury(std::exchange(guard.engine, nullptr));
}

// What a guard does when its engine is gone without a word.
void SimWorld::EngineDied(int host) {
  KillEngine(host);
  StartRecovery(host, /*deposed=*/false);
}

void SimWorld::RemoveCopy(int host) {
  Trace(absl::StrCat("host ", host, " copy ", hosts_[host].guard->group->owner(), " is gone"));
  for (const auto& guest : hosts_[host].guard->group->guests()) HAVEN_CHECK_OK(guest->Destroy());
  HAVEN_CHECK_OK(hosts_[host].guard->group->output().Discard());
  Bury(std::shared_ptr<Guard>(std::move(hosts_[host].guard)));
}

void SimWorld::OnEngineEnded(int host) {
  Guard& guard = *hosts_[host].guard;
  const PrimaryEnd end = guard.engine->driver().primary().end();
  Trace(absl::StrCat("host ", host, " engine ended: ", guard.engine->driver().primary().cause()));
  const bool by_right = end == PrimaryEnd::kUnprotected || end == PrimaryEnd::kGuestEnded;
  if (by_right) checks_.OnProtectionEnded(arbiter_.truth(), guard.group->owner());
  scheduler_.After(1 * kNsPerMs, [this, host, end, by_right, engine = guard.engine] {
    const std::unique_ptr<Guard>& self = hosts_[host].guard;
    if (self == nullptr || self->engine != engine) return;
    KillEngine(host);
    if (by_right) return EndProtection(host, end);
    const bool refused = end == PrimaryEnd::kRefused && self->group->is_new();
    StartRecovery(host, /*deposed=*/!refused);
  });
}

// The buffer goes away, and the record with it. Some time later the operator protects the group
// again: as it runs on, or booted anew.
void SimWorld::EndProtection(int host, PrimaryEnd end) {
  Guard& guard = *hosts_[host].guard;
  const auto later = [this, host, copy = guard.group->copy()](int64_t ns, auto run) {
    scheduler_.After(ns, [this, host, copy, run] {
      const std::unique_ptr<Guard>& self = hosts_[host].guard;
      if (self != nullptr && self->group->copy() == copy) run();
    });
  };
  guard.record = false;
  if (!guard.group->output().Remove().ok()) {
    return later(10 * kNsPerMs, [this, host, end] { EndProtection(host, end); });
  }
  if (end == PrimaryEnd::kGuestEnded) {
    RemoveCopy(host);
    return Reboot();
  }
  later(100 * kNsPerMs, [this, host] {
    Guard& self = *hosts_[host].guard;
    if (self.group->AnyEnded()) {
      RemoveCopy(host);
      return Reboot();
    }
    self.record = true;
    self.group->Rename(NewOwner(host));
    StartRecovery(host, /*deposed=*/false);
  });
}

void SimWorld::BootGuests(int host) {
  const std::shared_ptr<SimGroup> group = MakeGroup(host, NewOwner(host), /*has_record=*/false);
  Trace(absl::StrCat("host ", host, " boots the guests as ", group->owner()));
  checks_.OnFirstCopy(group->copy(), config_.guests);
  StartGuard(host, group);
  StartRecovery(host, /*deposed=*/false);
}

// The operator boots guests that have ended, on the host that owned them last, once they neither
// run anywhere nor may do so yet.
void SimWorld::Reboot() {
  if (std::exchange(rebooting_, true)) return;
  scheduler_.After(200 * kNsPerMs, [this] {
    rebooting_ = false;
    const std::optional<Register>& truth = arbiter_.truth();
    const int host = truth.has_value() && truth->owner[0] == HostLetter(1) ? 1 : 0;
    const bool copies = HasCopy(0) || HasCopy(1);
    const bool waiting = hosts_[0].session != nullptr || hosts_[1].session != nullptr;
    if (copies || waiting || !hosts_[host].up) return Reboot();
    if (!truth.has_value() || (truth->running && truth->mode != RegisterMode::kPromotable)) {
      return BootGuests(host);
    }
    lost_ = true;
  });
}

}  // namespace haven
