// SPDX-License-Identifier: Apache-2.0
//
// A simulated session process on the backup, from its admission on.
#ifndef HAVEN_TESTS_SIM_SIM_SESSION_H_
#define HAVEN_TESTS_SIM_SIM_SESSION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/sim_engine.h"
#include "tests/sim/sim_replica.h"

namespace haven {

class SimSession final : public PrimaryConnector,
                         public BackupObserver,
                         public std::enable_shared_from_this<SimSession> {
 public:
  // `announce`: writes down that a copy may run here from now on. `kill`: ends that engine process
  // for certain.
  SimSession(const SimShared& shared, int host, std::string owner, const SimClock& clock,
             std::function<absl::Status()> announce, std::function<void()> ended,
             std::function<void(const SimEngine*)> kill);
  ~SimSession() override;

  // The call for which this process was started.
  void Start(const SimCall& call);

  BackupDriver& driver() { return *driver_; }
  const BackupDriver& driver() const { return *driver_; }
  const std::vector<std::unique_ptr<SimReplica>>& replicas() const { return replicas_; }
  const std::string& owner() const { return owner_; }
  SimLoop& loop() { return loop_; }
  SimLife& life() { return life_; }
  // Of its turns from now on; committed epochs wait for so long before they are applied.
  void SetDelays(int64_t turn_ns, int64_t apply_ns);
  // A fault has made a promotion impossible: the term has to go back.
  bool promotion_failed() const;
  // A copy is lost (SimReplica::Lose). False: it was before, or a promotion is being carried out.
  bool LoseCopy(uint64_t which, bool destroyed);
  bool copy_lost() const;
  // As `haven-engine session` answers "retire": whether nobody may need this replica.
  bool MayStop() const;

  // What the engine sends, after the network's delay.
  void TakeHello(const SimCall& call);
  void TakeLinkRequest(SessionId session, LinkNumber link, std::shared_ptr<SimEngine> engine,
                       uint64_t attempt, std::shared_ptr<SimChannel> channel, SimLanes remote);
  void TakeLinkReady(SessionId session, LinkNumber link, std::weak_ptr<SimEngine> engine,
                     std::shared_ptr<SimChannel> channel);
  void TakeMessage(const std::shared_ptr<SimChannel>& channel, const ControlMessage& message);

  // Newest committed state of a guest in this session.
  std::optional<SimState> Committed(SessionId session, uint32_t guest) const;

  // PrimaryConnector.
  std::optional<SealKey> SealKeyOf(SessionId session) const override;
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
  void Turn();
  void FollowLink();
  std::shared_ptr<SimLink> MakeLink(SimPath path, std::function<void()> wake);

  const SimShared shared_;
  const int host_;
  const std::string owner_;
  const SimClock& clock_;
  std::function<absl::Status()> announce_;
  std::function<void()> ended_;
  std::function<void(const SimEngine*)> kill_;
  SimLife life_;
  SimFabric fabric_;
  LocalRegion scratch_;
  std::vector<std::unique_ptr<SimReplica>> replicas_;
  bool announced_ = false;
  bool revoke_failed_ = false;
  SimPump pump_;
  SimArbiterPort arbiter_;
  SimLoop loop_;
  std::unique_ptr<BackupDriver> driver_;
  std::deque<RegisterAnswer> answers_;

  SimCall caller_;  // The newest Hello, until it is answered.
  std::shared_ptr<SimChannel> channel_;
  std::weak_ptr<SimEngine> engine_;  // At the other end of the channel.
  std::weak_ptr<SimEngine> writer_;  // The last one that had a link.
  uint64_t link_attempt_ = 0;
  LinkNumber newest_link_ = kNoLink;  // Of those asked for in the session.
  SimLanes remote_;                   // The engine's ends, until they are joined.
  SimLanes lanes_;
  RemoteRegion peer_block_;
  std::deque<PrimaryEvent> events_;
  SessionId followed_session_ = kNoSession;
  LinkNumber followed_link_ = kNoLink;
  bool reported_end_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_SESSION_H_
