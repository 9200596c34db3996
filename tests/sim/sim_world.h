// SPDX-License-Identifier: Apache-2.0
//
// Two hosts, an arbiter, a protected group and everything that can go wrong, from one seed.
#ifndef HAVEN_TESTS_SIM_SIM_WORLD_H_
#define HAVEN_TESTS_SIM_SIM_WORLD_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/sim_coverage.h"
#include "tests/sim/sim_guard.h"
#include "tests/sim/sim_session.h"

namespace haven {

struct SimResult {
  std::string violation;  // Empty: all invariants held, and the world came to rest.
  uint64_t released = 0;
  uint64_t promotions = 0;
  uint64_t epochs = 0;
  uint64_t coded_epochs = 0;
  uint64_t verified_epochs = 0;  // Of these, with hashes beside the bytes.
  uint64_t sealed_epochs = 0;
  uint64_t kept_logs = 0;     // Checkpoints that did not clear the log of dirty pages.
  uint64_t cleared_logs = 0;  // Such logs that were cleared between two checkpoints.
  uint64_t copies_lost = 0;
  uint64_t let_go = 0;      // Guests that stood, by others than the engine.
  bool group_lost = false;  // Both copies lost their hosts: nothing to come to rest.
  bool crashed = false;     // The process that the seed names died at the event it names.
  uint64_t fail_stops = 0;  // Calm fail-stops and short cuts that were met as stated (I6).
  uint64_t short_cuts = 0;
  SimCoverage coverage;
};

// What a promoted copy is seen to be when it first runs.
struct SimPromoted {
  std::vector<SimState> states;
  std::vector<uint64_t> memory_hashes;
};

class SimWorld {
 public:
  // `trace`: print what happens.
  SimWorld(uint64_t seed, bool trace);
  ~SimWorld();

  SimResult Run();

 private:
  friend class SimGuard;

  // What is on a host; what of it outlives its processes, and what its power.
  struct Host {
    std::unique_ptr<SimClock> clock;
    bool up = true;
    uint32_t boots = 0;
    bool listens = true;
    uint32_t listeners = 0;  // That were started here.
    bool durable = true;     // The directory of records is on a disk, not in memory.
    std::optional<SimRecord> record;
    std::shared_ptr<SimGroup> copy;           // The guests.
    std::optional<SimPromoted> unrun;         // The copy was promoted, and has not run yet.
    std::shared_ptr<SimGuard> guard;          // Holds the group's lock, or
    std::shared_ptr<SimSession> session;      // ... this does, or nobody.
    bool supervised = false;                  // The service manager is about to start a guard.
    std::optional<int64_t> stopped_since_ns;  // All guests have stood still since.
  };
  // Strikes when the world is in that state.
  struct Ambush {
    SimFault fault;
    ProtocolState state;
    bool eager = false;  // At the first occasion.
    bool leads = false;  // To another state, so it takes effect for certain, and for long.
  };

  // sim_world.cc: the whole.
  void Configure();
  void MakeRoomy();
  void ConfigureCodec();
  void ChangeCodec();
  void CountEpochs(const PrimaryDriver& driver);
  std::shared_ptr<SimGroup> MakeGroup(int host, std::string owner);
  static char HostLetter(int host) { return static_cast<char>('a' + host); }
  std::string NewOwner(int host);
  void Bury(std::shared_ptr<void> process);
  void Slice();
  bool HasCopy(int host) const { return hosts_[host].copy != nullptr; }
  SimEngine* EngineAt(int host) const;
  int OwnerHost() const;
  int PrimaryHost() const;
  bool AtRest() const;
  bool RunUntil(int64_t end_ns, bool stop_at_rest);
  std::string Describe() const;
  void Trace(const std::string& what) const;
  void Released(SimGroup& group, const SimPacket& packet);

  // sim_operator.cc: what outlives guards, and who starts them.
  absl::Status SavePhase(int host, GroupPhase phase, SimLife& life);
  absl::Status NoteSession(int host, SimLife& life);
  absl::Status Announce(int host, const std::string& owner);
  void Supervise(int host);
  void StartGuard(int host);
  void Protect(int host);
  void GoOnUnprotected(int host);
  void RemoveCopy(int host);
  void BootGuests(int host);
  void Reboot();

  // sim_listener.cc: session processes.
  void Connect(int from, const SimCall& call);
  void Admit(int host, const SimCall& call);
  void Retire(int host, const SimCall& call);
  void WaitForLock(int host, const SimCall& call, int tries);
  void LaterHere(int host, int64_t ns, std::function<void()> run);
  void RefuseCall(int host, const SimCall& call, RefuseCode code, const char* cause);
  void StartSession(int host, const SimCall& call);
  std::shared_ptr<SimSession> TakeSession(int host);
  void GiveUpReplica(const SimSession& session);
  void OnSessionEnded(int host);
  void LeaveCopies(int host, const SimSession& session);
  void NoteRun(int host);
  bool OwnerAccountedFor() const;

  // sim_waits.cc: the bounds of all waits (I5).
  void CheckWaits();
  void CheckWait(const std::string& who, const char* what, bool owed, int64_t wake_ns,
                 int64_t now_ns, bool hung);
  void CheckCopy(int host);
  void CheckEngine(int host);

  // sim_probe.cc: calm failures at the end (I6).
  void Probe();
  void ProbeFailStop();
  void ProbeShortCut();

  // sim_ambush.cc: faults that wait for states.
  void SetAmbushes();
  void Lead(SimFault fault, ProtocolState state);
  void LeadTo(ProtocolState state);

  // sim_watch.cc: events, states, and what has met them.
  void OnEvent(SimProcess process, int host);
  void Tell(const char* who, const char* state, const char* cause);
  void Look();
  ProtocolStates StatesAt(int host) const;
  ProtocolStates States() const { return StatesAt(0) | StatesAt(1); }
  ProtocolStates StatesNear(int host) const;
  void StrikeIn(SimFault fault, ProtocolStates states);
  bool InForce(SimFault fault) const;

  // sim_inject.cc: what goes wrong, and when.
  void InjectFaults();
  bool Inject(SimFault fault, int near, bool leads);
  void InjectLasting(SimFault fault, int64_t length_ns);
  void SlowSessions();
  void InjectByChance(SimFault fault, int64_t length_ns, uint32_t per_mille);
  bool InjectOnce(SimFault fault, int host);
  bool InjectHere(SimFault fault, int host);
  bool InjectProcess(SimFault fault, int host);
  bool InjectGuest(SimFault fault, int host);
  bool HasServer(SimFault command, int host) const;
  void InjectOperator(SimFault fault, int host);
  void HangEngine(int host, int64_t until_ns);
  void JumpClock(int host);

  // sim_copy_loss.cc: copies that are lost while they wait.
  void LoseCopies();
  void LoseCopy(uint64_t which, bool destroyed);
  void LoseCopyBeforePromotable();

  // sim_meddling.cc: others let guests go on that the engine has stopped.
  void Meddle();
  void LetGuestsGo();

  // sim_crash.cc: processes and hosts that die.
  void CrashProcess(SimProcess process, int host);
  bool CrashGuard(int host);
  bool CrashEngine(int host);
  bool CrashListener(int host);
  bool CrashSession(int host);
  bool CrashHost(int host);
  bool OwnerDied() const;

  const uint64_t seed_;
  const bool trace_;
  Random random_;
  // For what concerns coded pages alone: the rest of a seed is what it is without them.
  Random codec_random_;
  Scheduler scheduler_;
  SimNetwork network_{scheduler_, random_};
  SimMemory memory_;
  SimChecks checks_;
  SimGuestWorld guests_{scheduler_, random_, checks_};
  SimArbiter arbiter_{network_, checks_};
  SimIds ids_{random_};
  SimConfig config_;
  SimShared shared_{
      guests_,
      network_,
      memory_,
      arbiter_,
      ids_,
      config_,
      [this](const std::string& what) { Trace(what); },
      [this](SimProcess process, int host) { OnEvent(process, host); },
      [this](SimFault fault, int host) { StrikeIn(fault, StatesNear(host)); },
      [this](const char* who, const char* state, const char* cause) { Tell(who, state, cause); }};

  std::array<Host, 2> hosts_;
  std::vector<std::shared_ptr<SimGroup>> groups_;  // All that ever were: late events find them.
  std::vector<std::shared_ptr<void>> morgue_;      // Processes that have just ended.
  std::set<std::string> accounted_;  // Owners whose copy has run, or whose host has lost power.
  std::map<SessionId, std::vector<uint64_t>> ended_sessions_;  // What they had committed, by guest.
  CopyId next_copy_ = 1;

  std::vector<Ambush> ambushes_;
  ProtocolStates ambushed_ = 0;  // The states of all ambushes.
  ProtocolStates seen_ = 0;      // The states at the last look.
  std::array<int64_t, kSimFaults> in_force_until_ns_{};
  SimProcess victim_ = SimProcess::kCount;  // Dies at its event of this number.
  uint64_t victim_events_ = 0;
  // Not 0: the first request for `promotable` is late by so much, and the copy is lost meanwhile.
  int64_t late_promotable_ns_ = 0;
  bool looking_ = false;
  int actor_ = 0;  // Whose process acts.

  bool faults_over_ = false;
  int64_t faults_over_ns_ = 0;
  bool rebooting_ = false;
  bool lost_ = false;
  bool request_died_ = false;  // A process was killed while the arbiter had a request of it.
  SimResult result_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_WORLD_H_
