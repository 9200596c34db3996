// SPDX-License-Identifier: Apache-2.0
//
// Life on the two hosts: guards, engines, sessions. Faults are in sim_faults.cc.
#include "tests/sim/sim_world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

SimWorld::SimWorld(uint64_t seed, bool trace) : trace_(trace), random_(seed) {
  Configure();
  for (Host& host : hosts_) host.clock = std::make_unique<SimClock>(scheduler_);
}

SimWorld::~SimWorld() { scheduler_.Clear(); }

void SimWorld::Configure() {
  config_.guests = random_.Chance(1, 3) ? static_cast<uint32_t>(random_.Between(2, 3)) : 1;
  config_.geometry.slot_bytes = kMinSlotBytes;
  config_.geometry.ring_slots = static_cast<uint32_t>(random_.Between(4, 12));
  config_.geometry.extent_slots = 2;
  config_.geometry.pool_slots = 2 * static_cast<uint32_t>(random_.Between(0, 8));
  config_.staging_slots = static_cast<uint32_t>(
      random_.Between(3, config_.geometry.ring_slots + config_.geometry.pool_slots));
  PrimaryConfig& primary = config_.primary;
  primary.interval_ns = random_.Between(5, 40) * kNsPerMs;
  primary.detect_ns = random_.Between(60, 200) * kNsPerMs;
  primary.rearm_ns = random_.Between(200, 900) * kNsPerMs;
  primary.progress_ns = random_.Between(80, 300) * kNsPerMs;
  primary.pause_budget_ns = random_.Between(100, 600) * kNsPerMs;
  primary.solo_patience_ns = random_.Between(200, 800) * kNsPerMs;
  primary.suspend_deadline_ns = 50 * kNsPerMs;
  primary.resume_deadline_ns = 50 * kNsPerMs;
  primary.session_retry_ns = 150 * kNsPerMs;
  primary.link_retry_ns = 20 * kNsPerMs;
  primary.open_deadline_ns = 200 * kNsPerMs;
  primary.arbiter_retry_ns = 30 * kNsPerMs;
  primary.handover_ns = 500 * kNsPerMs;
  primary.sync_threshold_pages = 24;
  primary.sync_rounds_max = 4;
  if (random_.Chance(1, 2)) config_.apply_delay_ns = random_.Between(0, 30) * kNsPerMs;
  BackupConfig& backup = config_.backup;
  backup.detect_ns = primary.detect_ns;
  backup.arbiter_retry_ns = 30 * kNsPerMs;
  backup.register_poll_ns = 100 * kNsPerMs;
  backup.copy_retry_ns = 20 * kNsPerMs;
  backup.keep_ns = random_.Between(800, 3000) * kNsPerMs;
}

void SimWorld::Trace(const std::string& what) const {
  if (trace_)
    std::printf("%11.6f ms %s\n", static_cast<double>(scheduler_.now_ns()) / 1e6, what.c_str());
}

std::string SimWorld::NewOwner(int host) {
  return absl::StrFormat("%c.%016x", 'a' + host, random_.Next());
}

std::shared_ptr<SimGroup> SimWorld::MakeGroup(int host, std::string owner) {
  const CopyId copy = next_copy_++;
  const size_t index = groups_.size();
  groups_.push_back(std::make_shared<SimGroup>(
      guests_, copy, config_.guests, std::move(owner),
      [this, index](const SimPacket& packet) { Released(*groups_[index], packet); },
      [this, host, copy] {
        const std::unique_ptr<Guard>& guard = hosts_[host].guard;
        if (guard == nullptr || guard->group->copy() != copy) return;
        if (guard->engine != nullptr) guard->engine->Wake();
      }));
  return groups_.back();
}

void SimWorld::Released(SimGroup& group, const SimPacket& packet) {
  // What any replica that the register would let run has committed for this guest.
  std::optional<uint64_t> committed;
  const std::optional<Register>& truth = arbiter_.truth();
  if (truth.has_value() && truth->mode == RegisterMode::kPromotable) {
    for (const Host& host : hosts_) {
      if (host.session == nullptr) continue;
      const auto step = host.session->CommittedStep(truth->session, packet.guest);
      if (step.has_value()) committed = step;
    }
    // A replica that is gone can not be promoted: then only its own absence is left to answer for.
    if (!committed.has_value()) committed = UINT64_MAX;
  }
  if (truth.has_value() && truth->owner != group.owner()) committed = UINT64_MAX;
  checks_.OnReleased(packet, truth, group.owner(), committed);
}

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
      shared_, host, *guard.group, *hosts_[host].clock, [this, host] { return Dial(host); },
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
  guard.loop = std::make_unique<SimLoop>(
      scheduler_, *hosts_[host].clock,
      [this, host] {
        Guard& self = *hosts_[host].guard;
        self.recovery->OnTick(hosts_[host].clock->NowNs());
        if (self.recovery->outcome() == Recovery::Outcome::kNotYet) return;
        const Recovery::Outcome outcome = self.recovery->outcome();
        std::optional<Register> value;
        if (outcome == Recovery::Outcome::kOpen) value = self.recovery->value();
        Bury(std::shared_ptr<SimLoop>(std::move(self.loop)));
        self.recovery.reset();
        self.port.reset();
        if (value.has_value()) return OpenThenStart(host, *value);
        RemoveCopy(host);
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

void SimWorld::Guard::ResumeGuests() {
  for (const auto& guest : group->guests()) HAVEN_CHECK_OK(guest->Resume());
}

void SimWorld::Guard::StopGuests() {
  for (const auto& guest : group->guests()) HAVEN_CHECK_OK(guest->Request());
}

void SimWorld::Guard::DestroyGuests() {
  world->checks_.OnDeposedDestroyed(world->arbiter_.truth(), group->owner());
  world->scheduler_.After(2 * kNsPerMs, [w = world, h = host, copy = group->copy()] {
    const std::unique_ptr<Guard>& self = w->hosts_[h].guard;
    if (self == nullptr || self->group->copy() != copy || self->recovery == nullptr) return;
    if (self->recovery->state() != Recovery::State::kDestroying) return;
    HAVEN_CHECK_OK(self->group->output().Discard());
    self->recovery->OnGuestsDestroyed(absl::OkStatus(), w->hosts_[h].clock->NowNs());
    self->loop->Wake();
  });
}

void SimWorld::Guard::Report(const char* cause) {
  world->Trace(absl::StrCat("host ", host, " guard: ", cause));
}

// Ends a process that may be the caller: nothing happens in between.
void SimWorld::Bury(std::shared_ptr<void> process) {
  morgue_.push_back(std::move(process));
  scheduler_.After(0, [this] { morgue_.clear(); });
}

void SimWorld::KillEngine(int host) {
  Guard& guard = *hosts_[host].guard;
  Bury(std::move(guard.engine));
  guard.engine = nullptr;
}

void SimWorld::RemoveCopy(int host) {
  Trace(absl::StrCat("host ", host, " copy ", hosts_[host].guard->group->owner(), " is gone"));
  for (const auto& guest : hosts_[host].guard->group->guests()) HAVEN_CHECK_OK(guest->Request());
  Bury(std::shared_ptr<Guard>(std::move(hosts_[host].guard)));
}

void SimWorld::OnEngineEnded(int host) {
  Guard& guard = *hosts_[host].guard;
  const PrimaryEnd end = guard.engine->driver().primary().end();
  result_.epochs += guard.engine->driver().counters().epochs;
  Trace(absl::StrCat("host ", host, " engine ended: ", guard.engine->driver().primary().cause()));
  const std::optional<Register> known = guard.engine->driver().primary().registers().known();
  scheduler_.After(1 * kNsPerMs, [this, host, end, known, engine = guard.engine] {
    const std::unique_ptr<Guard>& self = hosts_[host].guard;
    if (self == nullptr || self->engine != engine) return;
    KillEngine(host);
    if (end == PrimaryEnd::kUnprotected) {
      // The operator protects it again.
      return scheduler_.After(100 * kNsPerMs, [this, host, known, copy = self->group->copy()] {
        const std::unique_ptr<Guard>& again = hosts_[host].guard;
        if (again == nullptr || again->group->copy() != copy || again->engine != nullptr) return;
        if (again->recovery == nullptr) OpenThenStart(host, *known);
      });
    }
    StartRecovery(host, /*deposed=*/true);
  });
}

// The listener: one session for the group, none while a copy of the group is still here.
std::shared_ptr<SimSession> SimWorld::Dial(int from) {
  const int to = 1 - from;
  Host& host = hosts_[to];
  if (!host.up || host.guard != nullptr) return nullptr;
  if (host.session == nullptr) {
    host.session = std::make_shared<SimSession>(shared_, to, NewOwner(to), *host.clock,
                                                [this, to] { OnSessionEnded(to); });
    Trace(absl::StrCat("host ", to, " session process starts"));
  }
  return host.session;
}

void SimWorld::OnSessionEnded(int host) {
  const std::shared_ptr<SimSession> session = std::move(hosts_[host].session);
  hosts_[host].session = nullptr;
  Bury(session);
  Trace(absl::StrCat("host ", host, " session ended: ", session->driver().backup().cause()));
  if (session->driver().backup().end() != BackupEnd::kPromoted) {
    const std::optional<Register>& truth = arbiter_.truth();
    if (truth.has_value() && truth->mode == RegisterMode::kPromotable &&
        truth->session == session->driver().backup().session()) {
      checks_.Violate("I6: a replica that the register names was given up");
    }
    return;
  }
  std::vector<SimState> states;
  std::vector<uint32_t> hashes;
  for (const auto& replica : session->replicas()) {
    HAVEN_CHECK(replica->running());
    states.push_back(replica->state());
    hashes.push_back(replica->Hash());
  }
  const std::shared_ptr<SimGroup> group = MakeGroup(host, session->owner());
  for (size_t i = 0; i < states.size(); ++i) {
    group->guests()[i]->Adopt(states[i], session->replicas()[i]->TakeMemory());
  }
  checks_.OnRun(group->copy(), states, hashes, arbiter_.truth(), session->owner());
  if (!checks_.violation().empty()) return;
  StartGuard(host, group);
  const std::optional<Register> known = session->driver().backup().registers().known();
  StartEngine(host, &*known);
}

void SimWorld::Slice() {
  for (Host& host : hosts_) {
    if (host.guard != nullptr) host.guard->group->RunSlice();
  }
  scheduler_.After(random_.Between(500 * kNsPerUs, 4 * kNsPerMs), [this] { Slice(); });
}

int SimWorld::OwnerHost() const {
  const std::optional<Register>& truth = arbiter_.truth();
  if (!truth.has_value()) return 0;
  for (int host = 0; host < 2; ++host) {
    if (HasCopy(host) && hosts_[host].guard->group->owner() == truth->owner) return host;
  }
  return -1;
}

SimResult SimWorld::Run() {
  const std::shared_ptr<SimGroup> first = MakeGroup(0, NewOwner(0));
  checks_.OnFirstCopy(first->copy(), config_.guests);
  StartGuard(0, first);
  StartEngine(0, nullptr);
  Slice();
  InjectFaults();
  const auto run_until = [this](int64_t end_ns, bool stop_at_rest) {
    while (checks_.violation().empty() && !lost_ && scheduler_.Step(end_ns)) {
      if (stop_at_rest && AtRest()) return;
    }
  };
  run_until(safety_end_ns_, false);
  faults_over_ = true;
  network_.Heal();
  guests_.faults = SimGuestFaults{};
  Trace("faults are over");
  run_until(safety_end_ns_ + 30 * kNsPerSecond, true);
  result_.violation = checks_.violation();
  // Power lost while a request to the arbiter was under way: a second fault in one.
  const bool nothing_left =
      !HasCopy(0) && !HasCopy(1) && hosts_[0].session == nullptr && hosts_[1].session == nullptr;
  if (nothing_left && power_lost_) lost_ = true;
  if (result_.violation.empty() && !lost_ && !AtRest()) {
    result_.violation = absl::StrCat("I6: not protected 30 s after the last fault: ", Describe());
  }
  for (const Host& host : hosts_) {
    if (host.guard != nullptr && host.guard->engine != nullptr) {
      result_.epochs += host.guard->engine->driver().counters().epochs;
    }
  }
  result_.released = checks_.released();
  result_.promotions = checks_.promotions();
  result_.group_lost = lost_;
  return result_;
}

// Protected again, with one copy only and output that flows.
bool SimWorld::AtRest() const {
  const int owner = OwnerHost();
  if (owner < 0 || HasCopy(1 - owner)) return false;
  const Guard& guard = *hosts_[owner].guard;
  if (guard.engine == nullptr) return false;
  const Primary& primary = guard.engine->driver().primary();
  return primary.state(hosts_[owner].clock->NowNs()) == ProtectionState::kProtected &&
         arbiter_.truth()->mode == RegisterMode::kPromotable;
}

std::string SimWorld::Describe() const {
  std::string text = arbiter_.truth().has_value() ? FormatRegister(*arbiter_.truth()) : "absent";
  for (int host = 0; host < 2; ++host) {
    absl::StrAppend(&text, " | host ", host, hosts_[host].up ? "" : " down", ": ");
    if (HasCopy(host)) {
      const Guard& guard = *hosts_[host].guard;
      absl::StrAppend(&text, "copy ", guard.group->owner(), guard.up ? "" : " no guard");
      if (guard.engine != nullptr) {
        const PrimaryDriver& driver = guard.engine->driver();
        absl::StrAppend(&text, " engine role ", static_cast<int>(driver.primary().role()),
                        " phase ", static_cast<int>(driver.primary().phase()), " link ",
                        static_cast<int>(driver.primary().link_state()), " flight ",
                        driver.primary().epoch_in_flight(), " ", driver.primary().cause(), " ",
                        driver.last_error().ToString());
      }
      if (guard.recovery != nullptr) absl::StrAppend(&text, " recovery ", guard.recovery->cause());
    }
    if (hosts_[host].session != nullptr) {
      absl::StrAppend(&text, "session ",
                      Backup::StateName(hosts_[host].session->driver().backup().state()), " ",
                      hosts_[host].session->driver().last_error().ToString());
    }
  }
  return text;
}

}  // namespace haven
