// SPDX-License-Identifier: Apache-2.0
//
// Two hosts, an arbiter, a protected group and everything that can go wrong, from one seed.
#ifndef HAVEN_TESTS_SIM_SIM_WORLD_H_
#define HAVEN_TESTS_SIM_SIM_WORLD_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/membership/recovery.h"
#include "tests/sim/sim_process.h"

namespace haven {

// What can be done to a world. Coverage counts each in each state of the protocol.
enum class SimFault : uint8_t {
  kEngineCrash,
  kGuardCrash,
  kSessionCrash,
  kHostCrash,
  kPartition,
  kOneWayOut,   // Primary's host to backup's.
  kOneWayBack,  // The other way.
  kFlap,
  kArbiterCutPrimary,
  kArbiterCutBackup,
  kArbiterLosesAnswers,
  kGhostWrites,
  kTornWrites,
  kCorruptWrites,
  kSlowPeer,
  kClockJump,
  kFetchFails,
  kLogLost,
  kSuspendIgnored,
  kCaptureFails,
  kOutputFails,
  kPromotionFails,
  kBurst,
  kHandover,
  kOperatorPromote,
  kUnprotect,
  kCount,
};
const char* SimFaultName(SimFault fault);

struct SimResult {
  std::string violation;  // Empty: all invariants held, and the world came to rest.
  uint64_t released = 0;
  uint64_t promotions = 0;
  uint64_t epochs = 0;
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
    std::shared_ptr<SimEngine> engine;
    std::unique_ptr<SimArbiterPort> port;
    std::unique_ptr<Recovery> recovery;
    std::unique_ptr<SimLoop> loop;

    void ResumeGuests() override;
    void StopGuests() override;
    void DestroyGuests() override;
    void Report(const char* cause) override;
  };

  struct Host {
    std::unique_ptr<SimClock> clock;
    bool up = true;
    std::unique_ptr<Guard> guard;  // While there is a copy here.
    std::shared_ptr<SimSession> session;
  };

  void Configure();
  std::shared_ptr<SimGroup> MakeGroup(int host, std::string owner);
  std::string NewOwner(int host);
  void StartGuard(int host, std::shared_ptr<SimGroup> group);
  void StartEngine(int host, const Register* current);
  void StartRecovery(int host, bool deposed);
  void OpenThenStart(int host, Register current);
  void OnEngineEnded(int host);
  void OnSessionEnded(int host);
  void Bury(std::shared_ptr<void> process);
  void KillEngine(int host);
  void RemoveCopy(int host);
  std::shared_ptr<SimSession> Dial(int from);
  void Slice();
  void InjectFaults();
  void Inject(SimFault fault);
  void CrashHost(int host);
  bool HasCopy(int host) const { return hosts_[host].guard != nullptr; }
  int OwnerHost() const;
  std::string ProtocolState() const;
  bool AtRest() const;
  std::string Describe() const;
  void Trace(const std::string& what) const;
  void Released(SimGroup& group, const SimPacket& packet);

  const bool trace_;
  Random random_;
  Scheduler scheduler_;
  SimNetwork network_{scheduler_, random_};
  SimMemory memory_;
  SimChecks checks_;
  SimGuestWorld guests_{scheduler_, random_, checks_, {}, 1};
  SimArbiter arbiter_;
  SimIds ids_{random_};
  SimConfig config_;
  SimShared shared_{
      guests_, network_, memory_, arbiter_, ids_, config_, [this](const std::string& what) {
        Trace(what);
      }};

  std::array<Host, 2> hosts_;
  std::vector<std::shared_ptr<SimGroup>> groups_;  // All that ever were: late events find them.
  std::vector<std::shared_ptr<void>> morgue_;      // Processes that have just ended.
  CopyId next_copy_ = 1;
  bool faults_over_ = false;
  bool lost_ = false;
  bool power_lost_ = false;  // A host or a session process was killed.
  bool unprotected_for_good_ = false;
  int64_t safety_end_ns_ = 0;
  SimResult result_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_WORLD_H_
