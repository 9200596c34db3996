// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "tests/sim/sim_world.h"

namespace haven {

namespace {

// Between attempts at the output.
constexpr int64_t kRetryNs = 10 * kNsPerMs;

}  // namespace

SimGuard::SimGuard(SimWorld& world, int host)
    : world_(world), host_(host), life_(SimProcess::kGuard, host, world.shared_.event) {}

SimGuard::~SimGuard() {
  life_.Kill();
  if (engine_ != nullptr) engine_->life().Kill();
}

SimGroup& SimGuard::group() { return *world_.hosts_[host_].copy; }

void SimGuard::HangUntil(int64_t until_ns) {
  hung_until_ns_ = std::max(hung_until_ns_, until_ns);
  if (loop_ != nullptr) loop_->HangUntil(until_ns);
}

bool SimGuard::hung() const { return world_.scheduler_.now_ns() < hung_until_ns_; }

void SimGuard::Later(int64_t ns, std::function<void()> run) {
  world_.scheduler_.After(ns, [weak = weak_from_this(), run = std::move(run)] {
    const std::shared_ptr<SimGuard> self = weak.lock();
    if (self == nullptr || !self->life_.Acts()) return;
    const int64_t left_ns = self->hung_until_ns_ - self->world_.scheduler_.now_ns();
    if (left_ns > 0) return self->Later(left_ns, run);
    run();
  });
}

// Guard::SavePhase.
absl::Status SimGuard::SavePhase(GroupPhase phase) {
  if (!life_.Acts()) return SimDead();
  return world_.SavePhase(host_, phase, life_);
}

// Guard::Run returns an error: the process ends, and the service manager starts the next one.
void SimGuard::GiveUp(const absl::Status& cause) {
  if (life_.dead()) return;
  world_.Trace(absl::StrCat("host ", host_, " guard gives up: ", cause.message()));
  Die();
}

void SimGuard::Start() {
  if (!life_.Acts()) return;
  if (!world_.hosts_[host_].record.has_value()) return End();
  Recover(world_.hosts_[host_].record->phase == GroupPhase::kDeposed);
}

// Guard::Recover.
void SimGuard::Recover(bool deposed) {
  SimWorld::Host& host = world_.hosts_[host_];
  if (host.copy == nullptr || host.copy->AllVanished()) {
    // Nothing is held and nothing can run. The register stays as it is.
    world_.Trace(absl::StrCat("host ", host_, " guard: none of the guests exists any more"));
    host.record.reset();
    world_.RemoveCopy(host_);
    End();
    return world_.Reboot();
  }
  const SimRecord& record = *host.record;
  ending_ = record.phase == GroupPhase::kEnding || host.copy->AnyVanished();
  loop_ = std::make_unique<SimLoop>(
      world_.scheduler_, *host.clock, [this] { Drive(); },
      [this] { return recovery_ == nullptr ? kNever : recovery_->NextWakeNs(); });
  loop_->HangUntil(hung_until_ns_);
  port_ = std::make_unique<SimArbiterPort>(
      world_.arbiter_, world_.network_, life_, host_, [this](const RegisterAnswer& answer) {
        if (recovery_ == nullptr) return;
        recovery_->OnArbiterAnswer(answer, world_.hosts_[host_].clock->NowNs());
        if (loop_ != nullptr) loop_->Wake();
      });
  RecoveryConfig config;
  config.owner = record.owner;
  config.is_new = record.phase == GroupPhase::kNew;
  config.ending = ending_;
  config.whole = !host.copy->AnyVanished();
  config.arbiter_retry_ns = 30 * kNsPerMs;
  config.poll_ns = 40 * kNsPerMs;
  config.patience_ns = world_.config_.primary.solo_patience_ns;
  config.takeback_ns = 1500 * kNsPerMs;
  recovery_ = std::make_unique<Recovery>(config, *this, *port_, world_.ids_);
  const int64_t now_ns = host.clock->NowNs();
  if (deposed) {
    recovery_->StartDeposed(now_ns);
  } else {
    recovery_->StartAfterCrash(now_ns);
  }
  if (loop_ != nullptr) loop_->Wake();
}

// Guard::Drive, one turn.
void SimGuard::Drive() {
  if (!life_.Acts()) return;
  const int64_t now_ns = world_.hosts_[host_].clock->NowNs();
  recovery_->OnTick(now_ns);
  if (life_.dead()) return;
  if (recovery_->state() == Recovery::State::kDeposed) {
    const absl::Status saved = SavePhase(GroupPhase::kDeposed);
    if (!saved.ok()) return GiveUp(saved);
  }
  if (destroyed_.has_value()) {
    recovery_->OnGuestsDestroyed(*std::exchange(destroyed_, std::nullopt), now_ns);
    if (life_.dead()) return;
  }
  if (recovery_->outcome() != Recovery::Outcome::kNotYet) OnRecovered();
}

// The end of Guard::Recover.
void SimGuard::OnRecovered() {
  SimWorld::Host& host = world_.hosts_[host_];
  const Recovery::Outcome outcome = recovery_->outcome();
  register_ = recovery_->current();
  DropRecovery();
  switch (outcome) {
    case Recovery::Outcome::kAbsent:
      if (!ending_) return StartEngine();
      return EndProtection();
    case Recovery::Outcome::kOpen: {
      absl::Status saved;
      if (ending_) {
        world_.checks_.OnProtectionEnded(world_.arbiter_.truth(), host.record->owner);
        saved = SavePhase(GroupPhase::kEnding);
      } else if (host.record->phase == GroupPhase::kDeposed) {
        saved = SavePhase(GroupPhase::kProtecting);
      }
      if (!saved.ok()) return GiveUp(saved);
      return ending_ ? EndProtection() : OpenAndGoOn();
    }
    case Recovery::Outcome::kDestroyed:
    case Recovery::Outcome::kRefused:
      if (outcome == Recovery::Outcome::kRefused) world_.checks_.OnRefused(host.copy->copy());
      host.record.reset();
      world_.RemoveCopy(host_);
      // A promotion that was broken off early leaves nobody, if the old copy's host is dead.
      if (world_.OwnerDied()) world_.Reboot();
      return End();
    case Recovery::Outcome::kNotYet:
      break;
  }
  HAVEN_CHECK(false) << "no outcome";
}

void SimGuard::ResumeGuests() {
  for (const auto& guest : group().guests()) {
    if (life_.Acts()) guest->Resume().IgnoreError();
  }
}

void SimGuard::StopGuests() {
  for (const auto& guest : group().guests()) {
    if (life_.Acts()) guest->Request().IgnoreError();
  }
}

// Guard::Keeper::DestroyGuests; a domain takes a moment to go.
void SimGuard::DestroyGuests() {
  if (!life_.Acts()) return;
  if (!world_.hosts_[host_].unrun.has_value()) {
    world_.checks_.OnDeposedDestroyed(world_.arbiter_.truth(), group().owner(),
                                      world_.OwnerAccountedFor());
  }
  Later(world_.random_.Between(1, 10) * kNsPerMs, [this] {
    absl::Status status = SavePhase(GroupPhase::kDeposed);
    if (life_.dead()) return;
    for (const auto& guest : group().guests()) {
      if (status.ok() && life_.Acts()) status = guest->Destroy();
    }
    if (status.ok() && life_.Acts()) status = group().output().Discard();
    if (life_.dead()) return;
    destroyed_ = status;
    loop_->Wake();
  });
}

void SimGuard::Report(const char* cause) {
  if (!life_.Acts()) return;
  world_.Trace(absl::StrCat("host ", host_, " guard: ", cause));
  world_.Tell("guard", "without an engine", cause);
}

// As LetRun in engine/control/guard_copy.cc.
absl::Status SimGuard::LetRun() {
  for (const auto& guest : group().guests()) {
    if (!life_.Acts()) return SimDead();
    if (!guest->waits()) continue;
    world_.NoteRun(host_);
    HAVEN_CHECK_OK(guest->LetRun());
  }
  return absl::OkStatus();
}

// Guests and output first, then an engine that looks for a backup.
void SimGuard::OpenAndGoOn() {
  if (!LetRun().ok() || !life_.Acts()) return;
  if (!group().output().OpenAll().ok()) {
    return Later(kRetryNs, [this] {
      // Guests that have ended meanwhile are a matter for the register again.
      if (group().AnyVanished()) return Recover(false);
      OpenAndGoOn();
    });
  }
  // That variant's guard goes on with a register that no engine accepts: its output is what counts.
  if (!HAVEN_MUTANT(kGuardOpensWithoutGrant)) Later(1 * kNsPerMs, [this] { StartEngine(); });
}

void SimGuard::StartEngine() {
  if (!life_.Acts()) return;
  if (group().AnyVanished()) return Recover(false);  // The engine is not able to begin.
  engine_ = std::make_shared<SimEngine>(
      world_.shared_, host_, group(), *world_.hosts_[host_].clock,
      [world = &world_, host = host_](const SimCall& call) { world->Connect(host, call); },
      [world = &world_, host = host_](SimLife& life) { return world->NoteSession(host, life); },
      [this] { AfterEngine(); });
  world_.Trace(absl::StrCat("host ", host_, " engine starts for ", group().owner()));
  // It is only its own Start() that may end it at once.
  const std::shared_ptr<SimEngine> engine = engine_;
  engine->Start(register_.has_value() ? &*register_ : nullptr);
}

// Guard::AfterEngine: the engine has ended by its own will.
void SimGuard::AfterEngine() {
  const PrimaryEnd end = engine_->driver().primary().end();
  world_.Trace(
      absl::StrCat("host ", host_, " engine ended: ", engine_->driver().primary().cause()));
  const bool by_right = end == PrimaryEnd::kUnprotected || end == PrimaryEnd::kGuestEnded;
  if (by_right) world_.checks_.OnProtectionEnded(world_.arbiter_.truth(), group().owner());
  if (end == PrimaryEnd::kGuestEnded && group().AllEnded()) {
    world_.Tell("guard", "ending", "all guests of the group have ended");
  }
  Later(world_.random_.Between(1, 10) * kNsPerMs, [this, by_right, engine = engine_] {
    if (engine_ != engine) return;
    DropEngine();
    const bool is_new = world_.hosts_[host_].record->phase == GroupPhase::kNew;
    if (!by_right && is_new) return Recover(false);
    const absl::Status saved = SavePhase(by_right ? GroupPhase::kEnding : GroupPhase::kDeposed);
    if (!saved.ok()) return GiveUp(saved);
    if (by_right) return EndProtection();
    Recover(/*deposed=*/true);
  });
}

void SimGuard::KillEngine() {
  if (engine_ == nullptr || engine_->life().dead()) return;
  engine_->life().Kill();
  Later(world_.random_.Between(50 * kNsPerUs, 2 * kNsPerMs), [this, engine = engine_] {
    if (engine_ != engine) return;
    DropEngine();
    Recover(/*deposed=*/false);
  });
}

// Guard::EndProtection: the register says `none`, or there is none.
void SimGuard::EndProtection() {
  closing_ = true;
  absl::Status status;
  for (const auto& guest : group().guests()) {
    if (!life_.Acts()) return;
    const absl::Status resumed = guest->Resume();
    if (!absl::IsUnavailable(resumed)) status.Update(resumed);
  }
  if (status.ok()) status = LetRun();
  if (status.ok() && life_.Acts()) status = group().output().Remove();
  if (life_.dead()) return;
  if (!status.ok()) return Later(kRetryNs, [this] { EndProtection(); });
  world_.hosts_[host_].record.reset();
  End();
  world_.GoOnUnprotected(host_);
}

void SimGuard::End() {
  const std::shared_ptr<SimGuard> self = shared_from_this();
  life_.Kill();
  DropEngine();
  DropRecovery();
  world_.Bury(std::move(world_.hosts_[host_].guard));
}

void SimGuard::Die() {
  if (life_.dead()) return;
  End();
  world_.Supervise(host_);
}

void SimGuard::DropEngine() {
  if (engine_ == nullptr) return;
  engine_->life().Kill();
  world_.CountEpochs(engine_->driver());
  world_.Bury(std::exchange(engine_, nullptr));
}

// The caller may be one of these.
void SimGuard::DropRecovery() {
  world_.Bury(std::shared_ptr<SimLoop>(std::move(loop_)));
  world_.Bury(std::shared_ptr<Recovery>(std::move(recovery_)));
  world_.Bury(std::shared_ptr<SimArbiterPort>(std::move(port_)));
}

std::shared_ptr<SimEngine> SimGuard::engine() const {
  return engine_ != nullptr && !engine_->life().dead() ? engine_ : nullptr;
}

SimGuardState SimGuard::state() const {
  if (closing_) return SimGuardState::kEnding;
  if (engine_ != nullptr) return SimGuardState::kCount;
  if (recovery_ == nullptr) return SimGuardState::kOpening;
  switch (recovery_->state()) {
    case Recovery::State::kClaiming:
      return recovery_->paused() ? SimGuardState::kPaused : SimGuardState::kClaiming;
    case Recovery::State::kDeposed:
      return SimGuardState::kDeposed;
    case Recovery::State::kDestroying:
      return SimGuardState::kDestroying;
    case Recovery::State::kDone:
      break;
  }
  return SimGuardState::kCount;
}

bool SimGuard::asks_arbiter() const {
  return (engine_ != nullptr && engine_->asks_arbiter()) ||
         (recovery_ != nullptr && recovery_->registers().change_pending());
}

}  // namespace haven
