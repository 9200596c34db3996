// SPDX-License-Identifier: Apache-2.0
//
// The listener's side of a simulated host: a process for every connection, the group's lock, and
// what becomes of a session (engine/cli/backup.cc).
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/sim/sim_world.h"

namespace haven {

// In a process that was just started for a connection: lost if the host or the listener goes.
void SimWorld::LaterHere(int host, int64_t ns, std::function<void()> run) {
  scheduler_.After(ns, [this, host, run = std::move(run), boots = hosts_[host].boots,
                        listeners = hosts_[host].listeners] {
    if (hosts_[host].boots != boots || hosts_[host].listeners != listeners) return;
    OnEvent(SimProcess::kListener, host);
    if (hosts_[host].boots == boots && hosts_[host].listeners == listeners) run();
  });
}

void SimWorld::Connect(int from, const SimCall& call) {
  const int to = 1 - from;
  if (!hosts_[to].up || !hosts_[to].listens) return;
  LaterHere(to, random_.Between(1 * kNsPerMs, 3 * kNsPerMs), [this, to, call] { Admit(to, call); });
}

// A group has one replica on a host, and none while a copy of it is or may be running there.
void SimWorld::Admit(int host, const SimCall& call) {
  if (hosts_[host].record.has_value()) {
    return RefuseCall(host, call, RefuseCode::kNotReady, "simulated: a copy is still here");
  }
  if (hosts_[host].session == nullptr && hosts_[host].guard == nullptr) {
    return StartSession(host, call);
  }
  LaterHere(host, random_.Between(100 * kNsPerUs, 2 * kNsPerMs),
            [this, host, call] { Retire(host, call); });
}

// An older session's replica that nobody may promote makes room.
void SimWorld::Retire(int host, const SimCall& call) {
  const std::shared_ptr<SimSession>& holder = hosts_[host].session;
  if (holder != nullptr) {
    if (holder->loop().hung() || !holder->MayStop()) {
      return RefuseCall(host, call, RefuseCode::kGroupBusy, "simulated: the replica is needed");
    }
    Trace(absl::StrCat("host ", host, " session is retired"));
    const std::shared_ptr<SimSession> retired = TakeSession(host);
    GiveUpReplica(*retired);
    retired->life().Kill();
    Bury(retired);
  }
  WaitForLock(host, call, 0);
}

void SimWorld::WaitForLock(int host, const SimCall& call, int tries) {
  constexpr int kTries = 40;
  const Host& here = hosts_[host];
  if (here.session == nullptr && here.guard == nullptr) {
    // Whoever had the lock may have left a copy.
    if (!here.record.has_value()) return StartSession(host, call);
    return RefuseCall(host, call, RefuseCode::kNotReady, "simulated: a copy is still here");
  }
  if (tries == kTries) {
    return RefuseCall(host, call, RefuseCode::kGroupBusy, "simulated: the group is locked");
  }
  LaterHere(host, 50 * kNsPerMs, [this, host, call, tries] { WaitForLock(host, call, tries + 1); });
}

void SimWorld::RefuseCall(int host, const SimCall& call, RefuseCode code, const char* cause) {
  SimChannel::Send(call.channel, host, [call, code, cause] {
    const std::shared_ptr<SimEngine> engine = call.engine.lock();
    if (engine != nullptr) engine->TakeRefusal(call, ::haven::Refuse{code, cause});
  });
}

void SimWorld::StartSession(int host, const SimCall& call) {
  const std::string owner = NewOwner(host);
  hosts_[host].session = std::make_shared<SimSession>(
      shared_, host, owner, *hosts_[host].clock,
      [this, host, owner] { return Announce(host, owner); }, [this, host] { OnSessionEnded(host); },
      [this, other = 1 - host](const SimEngine* writer) {
        if (EngineAt(other) == writer) CrashEngine(other);
      });
  Trace(absl::StrCat("host ", host, " session process starts"));
  const std::shared_ptr<SimSession> session = hosts_[host].session;
  session->Start(call);
  SlowSessions();
}

// The process ends; what it had committed is remembered.
std::shared_ptr<SimSession> SimWorld::TakeSession(int host) {
  std::shared_ptr<SimSession> session = std::move(hosts_[host].session);
  hosts_[host].session = nullptr;
  const SessionId id = session->driver().backup().session();
  std::vector<uint64_t>& steps = ended_sessions_[id];
  for (uint32_t guest = 0; guest < config_.guests; ++guest) {
    steps.push_back(session->Committed(id, guest).value_or(SimState()).step);
  }
  return session;
}

// Of its own will, that is: nobody may be in need of it.
void SimWorld::GiveUpReplica(const SimSession& session) {
  const std::optional<Register>& truth = arbiter_.truth();
  if (truth.has_value() && truth->mode == RegisterMode::kPromotable &&
      truth->session == session.driver().backup().session()) {
    checks_.Violate("I6: a replica that the register names was given up");
  }
  if (truth.has_value() && truth->owner == session.owner() && !truth->running) {
    checks_.Violate(absl::StrCat("I6: the copy that owns the group was given up: ",
                                 session.driver().backup().cause()));
  }
}

void SimWorld::OnSessionEnded(int host) {
  const std::shared_ptr<SimSession> session = TakeSession(host);
  session->life().Kill();
  Bury(session);
  Trace(absl::StrCat("host ", host, " session ended: ", session->driver().backup().cause()));
  if (session->driver().backup().end() == BackupEnd::kPromoted) {
    LeaveCopies(host, *session);
    if (checks_.violation().empty()) StartGuard(host);
    return;
  }
  GiveUpReplica(*session);
  // A promotion that failed after it was announced has left no copy.
  hosts_[host].record.reset();
  // The term went back, as it must, to a copy that was not there any more.
  if (session->promotion_failed() && OwnerDied()) Reboot();
}

// The copies that the toolstack was told to run are guests now, those that were to outlive their
// session wait for a guard, and the others are gone.
void SimWorld::LeaveCopies(int host, const SimSession& session) {
  SimPromoted promoted;
  bool runs = false;
  for (const auto& replica : session.replicas()) {
    promoted.states.push_back(replica->state());
    promoted.memory_hashes.push_back(replica->Hash());
    runs |= replica->running();
    if (!replica->SpecialUntouched()) {
      return checks_.Violate("I1: a page that is not RAM was written on the backup");
    }
  }
  Host& here = hosts_[host];
  here.copy = MakeGroup(host, session.owner());
  for (size_t i = 0; i < promoted.states.size(); ++i) {
    SimReplica& replica = *session.replicas()[i];
    SimGuest& guest = *here.copy->guests()[i];
    guest.Adopt(promoted.states[i], replica.TakeMemory());
    if (replica.running()) continue;
    if (replica.outlives()) {
      guest.Wait();
    } else {
      guest.EndAs(DomainEnd::kVanished);
    }
  }
  here.unrun = std::move(promoted);
  if (runs) NoteRun(host);
}

// The first guest of a promoted copy runs.
void SimWorld::NoteRun(int host) {
  Host& here = hosts_[host];
  if (!here.unrun.has_value()) return;
  checks_.OnRun(here.copy->copy(), here.unrun->states, here.unrun->memory_hashes, arbiter_.truth(),
                here.copy->owner());
  here.unrun.reset();
  accounted_.insert(here.copy->owner());
}

// Whether the copy that the register names is there, or is gone for a reason of its own.
bool SimWorld::OwnerAccountedFor() const {
  const std::optional<Register>& truth = arbiter_.truth();
  if (!truth.has_value() || accounted_.contains(truth->owner)) return true;
  for (const Host& host : hosts_) {
    if (host.copy != nullptr && host.copy->owner() == truth->owner) return true;
    if (host.session != nullptr && host.session->owner() == truth->owner) return true;
  }
  return false;
}

}  // namespace haven
