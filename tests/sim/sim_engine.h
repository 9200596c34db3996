// SPDX-License-Identifier: Apache-2.0
//
// A simulated engine process on the primary: the production driver, its loop, its connections.
#ifndef HAVEN_TESTS_SIM_SIM_ENGINE_H_
#define HAVEN_TESTS_SIM_SIM_ENGINE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tests/sim/sim_engine_ports.h"
#include "tests/sim/sim_process.h"

namespace haven {

class SimEngine;
class SimSession;

// One attempt to agree on a session, as it arrives at a process of the other host.
struct SimCall {
  Hello hello;
  std::weak_ptr<SimEngine> engine;
  uint64_t attempt = 0;
  std::shared_ptr<SimChannel> channel;
  bool parked = false;  // It goes to the process of an older session, not to the listener.
};

// The two lanes of a link, on one side.
struct SimLanes {
  std::shared_ptr<SimLink> data;
  std::shared_ptr<SimLink> beats;

  void Destroy();
};

class SimEngine final : public BackupConnector,
                        public PrimaryObserver,
                        public std::enable_shared_from_this<SimEngine> {
 public:
  // `dial`: a new connection to the other host's listener. `protecting`: writes down that a session
  // begins.
  SimEngine(const SimShared& shared, int host, SimGroup& group, const SimClock& clock,
            std::function<void(SimCall)> dial, SimEngineGuest::Protecting protecting,
            std::function<void()> ended);
  ~SimEngine() override;

  void Start(const Register* current);
  PrimaryDriver& driver() { return *driver_; }
  const PrimaryDriver& driver() const { return *driver_; }
  SimLoop& loop() { return loop_; }
  SimLife& life() { return life_; }
  bool asks_arbiter() const { return driver_->primary().registers().busy(); }

  // Faults; false: there is nothing to break.
  bool LoseChannel();
  bool BreakData();
  bool LandOldAck();

  // BackupConnector.
  void OpenSession(SessionId session, const ReplicaBase& base) override;
  void OpenLink(LinkNumber number) override;
  void CloseLink() override;
  void DropSession() override;
  void Send(const ControlMessage& message) override;
  std::optional<ConnectorEvent> Next() override;
  void OnReport(const char* cause) override;

  // The peer's answers, after the network's delay.
  void TakeWelcome(uint64_t attempt, const Welcome& welcome, std::weak_ptr<SimSession> peer,
                   std::shared_ptr<SimChannel> channel);
  void TakeRefusal(const SimCall& call, const ::haven::Refuse& refuse);
  void TakeOffer(uint64_t attempt, const LinkOffer& offer, SimLanes lanes);
  void TakeMessage(const std::shared_ptr<SimChannel>& channel, const ControlMessage& message);

  SimFabric& fabric() { return fabric_; }
  const LocalRegion& peer_block() const { return memory_.peer_block; }

 private:
  void Push(ConnectorEvent event);
  void Turn();
  void Vouch();
  void NoteEpoch();
  void NoteCheckpoint();
  void NoteRoom();
  void FollowLink();
  void KeepAck();
  void Call(uint64_t attempt, bool parked);
  void AskForLink(LinkNumber number, uint64_t attempt);
  void OpenChannel();
  bool Reachable() const;
  std::shared_ptr<SimLink> MakeLink(SimPath path, std::function<void()> wake);

  const SimShared shared_;
  const int host_;
  SimGroup& group_;
  const SimClock& clock_;
  std::function<void(SimCall)> dial_;
  std::function<void()> ended_;
  SimLife life_;
  SimFabric fabric_;
  std::vector<std::unique_ptr<SimEngineGuest>> guests_;
  SimEngineOutput output_;
  CopyPool pool_{0};
  SimPump pump_;
  SimArbiterPort arbiter_;
  SimLoop loop_;
  std::unique_ptr<PrimaryDriver> driver_;
  std::deque<RegisterAnswer> answers_;

  uint64_t attempt_ = 0;
  Hello hello_;
  bool asking_parked_ = false;
  SessionMemory memory_;
  std::shared_ptr<SimChannel> calling_;  // Until it is answered.
  std::shared_ptr<SimChannel> channel_;
  bool lanes_left_over_ = false;
  LinkNumber open_link_ = kNoLink;  // Whose lanes there are.
  bool opening_channel_ = false;
  std::weak_ptr<SimSession> peer_;
  std::weak_ptr<SimSession> parked_;  // Of the last session: asked first for the next one.
  SimLanes lanes_;
  std::deque<ConnectorEvent> events_;
  SessionId followed_session_ = kNoSession;
  LinkNumber followed_link_ = kNoLink;
  uint64_t sent_bytes_ = 0;
  uint64_t checkpoints_ = 0;
  int64_t no_room_since_ns_ = kNever;
  std::vector<std::byte> old_ack_;  // The last one of an earlier link.
  bool reported_end_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_ENGINE_H_
