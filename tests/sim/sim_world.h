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
#include <string>
#include <utility>
#include <vector>

#include "engine/membership/recovery.h"
#include "tests/sim/sim_faults.h"
#include "tests/sim/sim_session.h"

namespace haven {

struct SimResult {
  std::string violation;  // Empty: all invariants held, and the world came to rest.
  uint64_t released = 0;
  uint64_t promotions = 0;
  uint64_t epochs = 0;
  uint64_t coded_epochs = 0;
  bool group_lost = false;  // Both copies lost their hosts: nothing to come to rest.
  std::map<std::pair<SimFault, std::string>, uint64_t> coverage;
};

class SimWorld {
 public:
  // `trace`: print what happens.
  SimWorld(uint64_t seed, bool trace);
  ~SimWorld();

  SimResult Run();

 private:
  // The guard of a copy: it has an engine, or a recovery that finds out what to do.
  struct Guard final : public RecoveryActions {
    SimWorld* world = nullptr;
    int host = 0;
    std::shared_ptr<SimGroup> group;
    bool up = true;
    bool record = true;  // False: the protection has ended, the guests run on.
    std::shared_ptr<SimEngine> engine;
    std::unique_ptr<SimArbiterPort> port;
    std::unique_ptr<Recovery> recovery;
    std::unique_ptr<SimLoop> loop;
    std::optional<int64_t> stopped_since_ns;     // All guests have stood still since;
    std::optional<int64_t> reasonless_since_ns;  // ... and the engine has not said why.

    void ResumeGuests() override;
    void StopGuests() override;
    void DestroyGuests() override;
    void Report(const char* cause) override;
  };

  struct Host {
    std::unique_ptr<SimClock> clock;
    bool up = true;
    uint32_t boots = 0;
    std::unique_ptr<Guard> guard;         // While there is a copy here.
    std::shared_ptr<SimSession> session;  // The holder of the group's lock, if no guard is.
  };

  // sim_world.cc: the whole.
  void Configure();
  void ConfigureCodec();
  void ChangeCodec();
  void CountEpochs(const PrimaryDriver& driver);
  std::shared_ptr<SimGroup> MakeGroup(int host, std::string owner, bool has_record);
  static char HostLetter(int host) { return static_cast<char>('a' + host); }
  std::string NewOwner(int host);
  void Bury(std::shared_ptr<void> process);
  void Slice();
  bool HasCopy(int host) const { return hosts_[host].guard != nullptr; }
  int OwnerHost() const;
  bool AtRest() const;
  std::string Describe() const;
  void Trace(const std::string& what) const;
  void Released(SimGroup& group, const SimPacket& packet);

  // sim_guard.cc: copies, their guards and engines.
  void StartGuard(int host, std::shared_ptr<SimGroup> group);
  void StartEngine(int host, const Register* current);
  void StartRecovery(int host, bool deposed);
  void OnRecovered(int host);
  void OpenThenStart(int host, Register current);
  void OnEngineEnded(int host);
  void EndProtection(int host, PrimaryEnd end);
  void KillEngine(int host);
  void EngineDied(int host);
  void RemoveCopy(int host);
  void BootGuests(int host);
  void Reboot();

  // sim_listener.cc: session processes.
  bool HasRecord(int host) const;
  void Connect(int from, const SimCall& call);
  void Admit(int host, const SimCall& call);
  void Retire(int host, const SimCall& call);
  void WaitForLock(int host, const SimCall& call, int tries);
  void RefuseCall(int host, const SimCall& call, RefuseCode code, const char* cause);
  void StartSession(int host, const SimCall& call);
  std::shared_ptr<SimSession> TakeSession(int host);
  void GiveUpReplica(const SimSession& session);
  void OnSessionEnded(int host);

  // sim_waits.cc: the bounds of all waits (I5).
  void CheckWaits();
  void CheckCopy(int host);

  // sim_inject.cc: what goes wrong, and when.
  void InjectFaults();
  void Inject(SimFault fault);
  void InjectNetwork(SimFault fault, int primary, int64_t length_ns);
  void InjectHypervisor(SimFault fault, int64_t length_ns);
  void InjectCopy(SimFault fault, int primary, int64_t length_ns);
  void InjectGuard(int host);
  void CrashHost(int host);
  void CrashSession(int host);
  bool OwnerDied() const;
  std::string ProtocolState() const;

  const bool trace_;
  Random random_;
  // For what concerns coded pages alone: the rest of a seed is what it is without them.
  Random codec_random_;
  Scheduler scheduler_;
  SimNetwork network_{scheduler_, random_};
  SimMemory memory_;
  SimChecks checks_;
  SimGuestWorld guests_{scheduler_, random_, checks_, {}, false, 1};
  SimArbiter arbiter_{network_, checks_};
  SimIds ids_{random_};
  SimConfig config_;
  SimShared shared_{
      guests_, network_, memory_, arbiter_, ids_, config_, [this](const std::string& what) {
        Trace(what);
      }};

  std::array<Host, 2> hosts_;
  std::vector<std::shared_ptr<SimGroup>> groups_;  // All that ever were: late events find them.
  std::vector<std::shared_ptr<void>> morgue_;      // Processes that have just ended.
  std::map<SessionId, std::vector<uint64_t>> ended_sessions_;  // What they had committed, by guest.
  CopyId next_copy_ = 1;
  bool faults_over_ = false;
  int64_t faults_over_ns_ = 0;
  bool rebooting_ = false;
  bool lost_ = false;
  bool request_died_ = false;  // A process was killed while the arbiter had a request of it.
  SimResult result_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_WORLD_H_
