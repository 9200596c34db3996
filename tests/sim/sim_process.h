// SPDX-License-Identifier: Apache-2.0
//
// The simulated processes: an engine on the primary, a session on the backup. They run the
// production drivers; what is simulated is how they are woken, connected and killed.
#ifndef HAVEN_TESTS_SIM_SIM_PROCESS_H_
#define HAVEN_TESTS_SIM_SIM_PROCESS_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/control/backup_driver.h"
#include "engine/control/primary_driver.h"
#include "tests/sim/sim_arbiter.h"
#include "tests/sim/sim_guest.h"
#include "transport/sim/sim_fabric.h"

namespace haven {

// Sizes and times that a seed draws.
struct SimConfig {
  uint32_t guests = 1;
  JournalGeometry geometry;
  uint32_t staging_slots = 0;
  PrimaryConfig primary;
  BackupConfig backup;
  int64_t apply_delay_ns = 0;
};

// What all processes of one world share.
struct SimShared {
  SimGuestWorld& guests;
  SimNetwork& network;
  SimMemory& memory;
  SimArbiter& arbiter;
  SimIds& ids;
  const SimConfig& config;
  std::function<void(const std::string&)> trace;
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

 private:
  void Run();

  Scheduler& scheduler_;
  const SimClock& clock_;
  std::function<void()> poll_;
  std::function<int64_t()> next_wake_;
  int64_t scheduled_ns_ = kNever;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class SimSession;

// Finds the process that would answer a Hello on the other host: the session there is, or a new one
// made by the listener. Null: refused or nobody there.
using SimDial = std::function<std::shared_ptr<SimSession>()>;

class SimEngine final : public BackupConnector,
                        public PrimaryObserver,
                        public std::enable_shared_from_this<SimEngine> {
 public:
  SimEngine(const SimShared& shared, int host, SimGroup& group, const SimClock& clock, SimDial dial,
            std::function<void()> ended);
  ~SimEngine() override;

  void Start(const Register* current);
  PrimaryDriver& driver() { return *driver_; }
  void Wake() { loop_.Wake(); }

  void OpenSession(SessionId session, const ReplicaBase& base) override;
  void OpenLink(LinkNumber number) override;
  void CloseLink() override;
  void DropSession() override;
  void Send(const ControlMessage& message) override;
  std::optional<ConnectorEvent> Next() override;
  void OnReport(const char* cause) override;

  // The peer's answers, after the network's delay.
  void TakeWelcome(uint64_t attempt, const Welcome& welcome);
  void TakeRefusal(uint64_t attempt, const absl::Status& cause);
  void TakeOffer(uint64_t attempt, const LinkOffer& offer, std::shared_ptr<SimLink> remote_data);
  void TakeMessage(const ControlMessage& message);

  const SimShared& shared() const { return shared_; }
  int host() const { return host_; }
  SimFabric& fabric() { return fabric_; }
  const LocalRegion& peer_block() const { return memory_.peer_block; }

 private:
  void Push(ConnectorEvent event);

  const SimShared shared_;
  const int host_;
  SimDial dial_;
  std::function<void()> ended_;
  SimFabric fabric_;
  CopyPool pool_{0};
  SimArbiterPort arbiter_;
  SimLoop loop_;
  std::unique_ptr<PrimaryDriver> driver_;

  uint64_t attempt_ = 0;
  SessionId session_ = kNoSession;
  SessionMemory memory_;
  std::weak_ptr<SimSession> peer_;
  std::shared_ptr<SimLink> link_;
  std::deque<ConnectorEvent> events_;
  int64_t last_send_ns_ = 0;
  bool reported_end_ = false;
};

class SimSession final : public PrimaryConnector,
                         public BackupObserver,
                         public std::enable_shared_from_this<SimSession> {
 public:
  SimSession(const SimShared& shared, int host, std::string owner, const SimClock& clock,
             std::function<void()> ended);
  ~SimSession() override;

  BackupDriver& driver() { return *driver_; }
  std::vector<std::unique_ptr<SimReplica>>& replicas() { return replicas_; }
  const std::string& owner() const { return owner_; }
  void Wake() { loop_.Wake(); }

  // What the engine sends, after the network's delay.
  void TakeHello(const Hello& hello, std::weak_ptr<SimEngine> engine, uint64_t attempt);
  void TakeLinkRequest(SessionId session, LinkNumber link, std::weak_ptr<SimEngine> engine,
                       uint64_t attempt, std::shared_ptr<SimLink> remote);
  void TakeMessage(const ControlMessage& message);

  // Newest committed step of a guest in this session, as its state says.
  std::optional<uint64_t> CommittedStep(SessionId session, uint32_t guest) const;

  void Accept(const Welcome& welcome) override;
  void Refuse(const ::haven::Refuse& refuse) override;
  void OfferLink(LinkOffer offer) override;
  void CloseLinks() override;
  absl::Status Revoke() override;
  void Send(const ControlMessage& message) override;
  std::optional<PrimaryEvent> Next() override;
  void OnReport(const char* cause) override;

 private:
  void Push(PrimaryEvent event);
  void ToEngine(std::function<void(SimEngine&)> run);

  const SimShared shared_;
  const int host_;
  const std::string owner_;
  std::function<void()> ended_;
  SimFabric fabric_;
  std::vector<std::unique_ptr<SimReplica>> replicas_;
  SimArbiterPort arbiter_;
  SimLoop loop_;
  std::unique_ptr<BackupDriver> driver_;

  bool started_ = false;
  std::weak_ptr<SimEngine> engine_;
  uint64_t hello_attempt_ = 0;
  uint64_t link_attempt_ = 0;
  std::shared_ptr<SimLink> remote_link_;  // The engine's end, until it is joined.
  std::shared_ptr<SimLink> link_;
  RemoteRegion peer_block_;
  std::deque<PrimaryEvent> events_;
  int64_t last_send_ns_ = 0;
  bool reported_end_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_PROCESS_H_
