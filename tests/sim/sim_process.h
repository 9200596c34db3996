// SPDX-License-Identifier: Apache-2.0
//
// What the simulated processes have in common: how they are woken, hang, talk and beat.
#ifndef HAVEN_TESTS_SIM_SIM_PROCESS_H_
#define HAVEN_TESTS_SIM_SIM_PROCESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/control/backup_driver.h"
#include "engine/control/beat_lane.h"
#include "engine/control/primary_driver.h"
#include "engine/replica/chunk_seal.h"
#include "tests/sim/sim_arbiter.h"
#include "tests/sim/sim_guest.h"
#include "tests/sim/sim_life.h"
#include "transport/sim/sim_fabric.h"

namespace haven {

// Sizes and times that a seed draws.
struct SimConfig {
  uint32_t guests = 1;
  JournalGeometry geometry;
  uint32_t staging_slots = 0;
  bool roomy = false;  // An epoch always fits.
  PrimaryConfig primary;
  BackupConfig backup;
  int64_t apply_delay_ns = 0;
  int64_t slow_turn_ns = 0;   // Of a session process that is slow.
  int64_t stuck_ns = 0;       // How long a process vouches for itself.
  int64_t hang_ns = 0;        // After which a guard kills its engine.
  bool revoke_kills = false;  // As over shared memory: cutting a writer off is killing it.
  CodecStageOptions codec;
  bool sealed = false;
  bool copies_lost = false;  // Now and then: see sim_copy_loss.cc.
};

// What both ends of a session's channel would make of it.
SealKey SimSealKey(SessionId session);

// What all processes of one world share.
struct SimShared {
  SimGuestWorld& guests;
  SimNetwork& network;
  SimMemory& memory;
  SimArbiter& arbiter;
  SimIds& ids;
  const SimConfig& config;
  std::function<void(const std::string&)> trace;
  std::function<void(SimProcess, int)> event;  // A process acts.
  std::function<void(SimFault, int)> strike;   // A fault takes effect on a host.
  // A state machine reports something, in this state.
  std::function<void(const char* who, const char* state, const char* cause)> tell;
};

// Calls `poll` soon after every Wake(), and at the time that `next_wake` names.
class SimLoop {
 public:
  SimLoop(Scheduler& scheduler, const SimClock& clock, std::function<void()> poll,
          std::function<int64_t()> next_wake)
      : scheduler_(scheduler),
        clock_(clock),
        poll_(std::move(poll)),
        next_wake_(std::move(next_wake)) {}

  void Wake();

  // Nothing is polled until then, in simulated time.
  void HangUntil(int64_t until_ns);
  bool hung() const { return scheduler_.now_ns() < hung_until_ns_; }
  // Of every turn from now on.
  void SetDelay(int64_t ns) { delay_ns_ = ns; }

 private:
  void RunAt(int64_t when_ns);
  void Run();

  Scheduler& scheduler_;
  const SimClock& clock_;
  std::function<void()> poll_;
  std::function<int64_t()> next_wake_;
  int64_t scheduled_ns_ = kNever;
  int64_t hung_until_ns_ = 0;
  int64_t delay_ns_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// The control channel between two processes: messages stay in order, a lost channel stays lost.
class SimChannel {
 public:
  explicit SimChannel(SimNetwork& network) : network_(network) {}

  bool up() const { return up_ && !closed_; }
  // Whatever is under way is lost.
  void Lose() { up_ = false; }
  // One end has closed it: what was sent before still arrives.
  void Close() { closed_ = true; }

  // Runs `arrive` at the other end after the network's delay, unless the network or the channel
  // fails before.
  static void Send(const std::shared_ptr<SimChannel>& channel, int from,
                   std::function<void()> arrive);

 private:
  SimNetwork& network_;
  int64_t last_ns_[2] = {0, 0};
  bool up_ = true;
  bool closed_ = false;
};

// HeartbeatPump in simulated time: beats through the lane as long as its owner has vouched for
// itself, whatever the owner's loop does.
class SimPump {
 public:
  SimPump(Scheduler& scheduler, const SimClock& clock, int64_t interval_ns)
      : scheduler_(scheduler), clock_(clock), interval_ns_(interval_ns) {}

  void Vouch(int64_t until_ns, uint32_t state) {
    alive_until_ns_ = until_ns;
    state_ = state;
  }
  void SetLane(std::unique_ptr<BeatLane> lane);
  void ClearLane();
  uint64_t last_counter(SessionId session) const;

 private:
  void Keep();
  void Beat(uint64_t lane);

  Scheduler& scheduler_;
  const SimClock& clock_;
  const int64_t interval_ns_;
  int64_t alive_until_ns_ = 0;
  uint32_t state_ = 0;
  std::unique_ptr<BeatLane> lane_;
  uint64_t lanes_ = 0;
  SessionId last_session_ = kNoSession;
  uint64_t last_counter_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_PROCESS_H_
