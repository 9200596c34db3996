// SPDX-License-Identifier: Apache-2.0
//
// The listener's side of a simulated host: a process for every connection, the group's lock, and
// what becomes of a session (engine/cli/backup.cc).
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/sim/sim_world.h"

namespace haven {

// A copy runs here, or may.
bool SimWorld::HasRecord(int host) const {
  const Host& here = hosts_[host];
  return (here.guard != nullptr && here.guard->record) ||
         (here.session != nullptr && here.session->announced());
}

void SimWorld::Connect(int from, const SimCall& call) {
  const int to = 1 - from;
  if (!hosts_[to].up) return;
  scheduler_.After(random_.Between(1 * kNsPerMs, 3 * kNsPerMs),
                   [this, to, call, boots = hosts_[to].boots] {
                     if (hosts_[to].boots == boots) Admit(to, call);
                   });
}

// A group has one replica on a host, and none while a copy of it is or may be running there.
void SimWorld::Admit(int host, const SimCall& call) {
  if (HasRecord(host)) {
    return RefuseCall(host, call, RefuseCode::kNotReady, "simulated: a copy is still here");
  }
  if (hosts_[host].session == nullptr && hosts_[host].guard == nullptr) {
    return StartSession(host, call);
  }
  scheduler_.After(random_.Between(100 * kNsPerUs, 2 * kNsPerMs),
                   [this, host, call, boots = hosts_[host].boots] {
                     if (hosts_[host].boots == boots) Retire(host, call);
                   });
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
    Bury(retired);
  }
  WaitForLock(host, call, 0);
}

void SimWorld::WaitForLock(int host, const SimCall& call, int tries) {
  constexpr int kTries = 40;
  if (hosts_[host].session == nullptr && hosts_[host].guard == nullptr) {
    return StartSession(host, call);
  }
  if (tries == kTries) {
    return RefuseCall(host, call, RefuseCode::kGroupBusy, "simulated: the group is locked");
  }
  scheduler_.After(50 * kNsPerMs, [this, host, call, tries, boots = hosts_[host].boots] {
    if (hosts_[host].boots == boots) WaitForLock(host, call, tries + 1);
  });
}

void SimWorld::RefuseCall(int host, const SimCall& call, RefuseCode code, const char* cause) {
  SimChannel::Send(call.channel, host, [call, code, cause] {
    const std::shared_ptr<SimEngine> engine = call.engine.lock();
    if (engine != nullptr) engine->TakeRefusal(call, ::haven::Refuse{code, cause});
  });
}

void SimWorld::StartSession(int host, const SimCall& call) {
  hosts_[host].session = std::make_shared<SimSession>(
      shared_, host, NewOwner(host), *hosts_[host].clock, [this, host] { OnSessionEnded(host); },
      [this, other = 1 - host](const SimEngine* writer) {
        const std::unique_ptr<Guard>& guard = hosts_[other].guard;
        if (guard != nullptr && guard->engine.get() == writer) EngineDied(other);
      });
  Trace(absl::StrCat("host ", host, " session process starts"));
  hosts_[host].session->Start(call);
}

// The process ends; what it had committed is remembered.
std::shared_ptr<SimSession> SimWorld::TakeSession(int host) {
  std::shared_ptr<SimSession> session = std::move(hosts_[host].session);
  hosts_[host].session = nullptr;
  const SessionId id = session->driver().backup().session();
  std::vector<uint64_t>& steps = ended_sessions_[id];
  for (uint32_t guest = 0; guest < config_.guests; ++guest) {
    steps.push_back(session->CommittedStep(id, guest).value_or(0));
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
  Bury(session);
  Trace(absl::StrCat("host ", host, " session ended: ", session->driver().backup().cause()));
  if (session->driver().backup().end() != BackupEnd::kPromoted) {
    GiveUpReplica(*session);
    // The term went back, as it must, to a copy that was not there any more.
    if (session->promotion_failed() && OwnerDied()) lost_ = true;
    return;
  }
  std::vector<SimState> states;
  std::vector<uint64_t> hashes;
  for (const auto& replica : session->replicas()) {
    HAVEN_CHECK(replica->running());
    states.push_back(replica->state());
    hashes.push_back(replica->Hash());
    if (!replica->SpecialUntouched()) {
      return checks_.Violate("I1: a page that is not RAM was written on the backup");
    }
  }
  const std::shared_ptr<SimGroup> group = MakeGroup(host, session->owner(), /*has_record=*/true);
  for (size_t i = 0; i < states.size(); ++i) {
    group->guests()[i]->Adopt(states[i], session->replicas()[i]->TakeMemory());
  }
  checks_.OnRun(group->copy(), states, hashes, arbiter_.truth(), session->owner());
  if (!checks_.violation().empty()) return;
  StartGuard(host, group);
  StartRecovery(host, /*deposed=*/false);
}

}  // namespace haven
