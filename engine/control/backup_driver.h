// SPDX-License-Identifier: Apache-2.0
//
// Joins the backup's state machine to replica, data path and connections.
#ifndef HAVEN_ENGINE_CONTROL_BACKUP_DRIVER_H_
#define HAVEN_ENGINE_CONTROL_BACKUP_DRIVER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/backup.h"
#include "engine/backup/journal_reader.h"
#include "engine/backup/peer_block_writer.h"
#include "engine/backup/replica_domain.h"
#include "engine/backup/slot_ledger.h"
#include "engine/backup/state_store.h"
#include "engine/base/clock.h"
#include "engine/control/primary_connector.h"

namespace haven {

// What one replica is made of. Everything pointed to outlives the driver.
struct ReplicaParts {
  std::string group;
  std::string node_id;
  FeatureAgreement agreement;
  JournalGeometry geometry;
  LocalRegion journal;          // geometry.total_bytes(), written by the primary.
  Blob journal_offer;           // How the primary addresses it.
  std::string session_address;  // Where the primary reconnects.
  LocalRegion scratch;          // PeerBlockWriter::kScratchBytes, then the heartbeat's.
  std::vector<ReplicaDomain*> replicas;
  std::vector<uint32_t> max_state_bytes;  // By domain.
};

struct BackupDriverOptions {
  BackupConfig protocol;
  unsigned apply_threads = 1;
  bool recheck_crc = true;
  int64_t beat_ns = 20 * kNsPerMs;      // Between heartbeats on the control channel.
  int64_t stuck_ns = 1 * kNsPerSecond;  // A poll that comes later than this: a stuck session.
};

// Sees every change; called from Poll().
class BackupObserver {
 public:
  virtual ~BackupObserver() = default;
  // `cause` is null if only numbers have changed.
  virtual void OnReport(const char* cause) = 0;
};

// Production and simulation run this very object. It has no thread but the applier's and never
// waits, save for the end of the apply at a promotion. Not thread-safe but for alive_until_ns().
class BackupDriver : private BackupActions {
 public:
  static absl::StatusOr<std::unique_ptr<BackupDriver>> Create(
      const BackupDriverOptions& options, ReplicaParts parts, PrimaryConnector& connector,
      ArbiterPort& arbiter, IdSource& ids, const Clock& clock, BackupObserver& observer);
  ~BackupDriver() override = default;

  // The Hello for which this replica was built.
  void Start(const Hello& hello);
  void OnArbiterAnswer(const RegisterAnswer& answer);
  void Poll();
  int64_t NextWakeNs() const;

  // An operator's word.
  absl::Status Promote() { return backup_.Promote(clock_.NowNs()); }
  // The simulation's slow host: a committed epoch waits so long before it is applied.
  void SetApplyDelay(int64_t ns) { apply_delay_ns_ = ns; }

  const Backup& backup() const { return backup_; }
  const absl::Status& last_error() const { return last_error_; }
  uint64_t applied_pages() const { return applied_pages_; }
  uint64_t received_bytes() const { return received_bytes_; }
  // Readable when an apply has finished; -1 without apply threads.
  int apply_event_fd() const { return applier_->event_fd(); }

  int64_t alive_until_ns() const { return alive_until_ns_.load(std::memory_order_relaxed); }
  // What the heartbeats say.
  BackupState WireState() const;
  // The lane for heartbeats while a link is up, else null.
  Link* beat_link() const { return beat_link_; }
  const RemoteRegion& peer_block() const { return peer_block_; }
  const ReplicaParts& parts() const { return parts_; }
  // The states that are committed; null before the first session.
  const StateStore* states() const { return states_.get(); }

 private:
  // Answers to actions, delivered when the state machine has returned.
  struct Answer {
    enum class Kind : uint8_t { kCutOff, kFinal, kPrepared, kRunning, kAbandoned };
    Kind kind = Kind::kCutOff;
    absl::Status status;
    Epoch epoch = kNoEpoch;
    EpochKind epoch_kind = EpochKind::kSync;
  };

  BackupDriver(const BackupDriverOptions& options, ReplicaParts parts, PrimaryConnector& connector,
               ArbiterPort& arbiter, IdSource& ids, const Clock& clock, BackupObserver& observer,
               std::unique_ptr<Applier> applier);

  // BackupActions, in backup_driver_actions.cc.
  void AcceptSession(SessionId session, bool base) override;
  void RefuseSession(SessionId session, const char* cause) override;
  void OfferLink(SessionId session, LinkNumber link, Epoch committed) override;
  void CloseLink() override;
  void Acknowledge(SessionId session, LinkNumber link, Epoch epoch) override;
  void Apply(Epoch epoch) override;
  void CutOff() override;
  void ReadFinal() override;
  void Prepare() override;
  void Run() override;
  void Abandon() override;
  void SendHandoverRefused(SessionId session) override;
  void SendPromoted(SessionId session, Term term) override;
  void SendDrop(SessionId session, const char* cause) override;
  void Report(const char* cause) override;

  absl::Status Outlive();

  void Queue(Answer::Kind kind, const absl::Status& status);
  bool DeliverAnswers();
  bool PollConnector();
  bool PollWire();
  bool PollApplier();
  bool SubmitWaiting(bool all);
  void Remember(const VerifiedEpoch& epoch);
  bool TakeImmediates();
  void TakeLink(const LinkMade& made);
  void TakeMessage(const ControlMessage& message);
  void GrantExtents();
  void LookAtBeat(int64_t now_ns);
  void SendBeat(int64_t now_ns);
  void LinkFailed(const absl::Status& cause);

  // Immediates granted to the primary at once.
  static constexpr uint32_t kCredits = 64;

  const BackupDriverOptions options_;
  const ReplicaParts parts_;
  PrimaryConnector& connector_;
  const Clock& clock_;
  BackupObserver& observer_;
  Backup backup_;

  std::unique_ptr<SlotLedger> ledger_;
  std::unique_ptr<StateStore> states_;
  std::unique_ptr<JournalReader> reader_;
  // Ends before the reader, whose epochs its threads apply.
  std::unique_ptr<Applier> applier_;
  std::optional<PeerBlockWriter> writer_;
  // Committed by the reader, not yet handed to the applier: in order, and when they may be.
  struct Waiting {
    VerifiedEpoch epoch;
    int64_t since_ns = 0;
  };
  std::array<Waiting, kMaxUnappliedEpochs> waiting_;
  size_t waiting_count_ = 0;
  int64_t apply_delay_ns_ = 0;

  LinkNumber link_number_ = kNoLink;
  Link* link_ = nullptr;
  Link* beat_link_ = nullptr;
  RemoteRegion peer_block_;
  // Immediates that have arrived and wait for the applier, in order.
  std::array<uint32_t, kCredits> immediates_{};
  size_t immediate_first_ = 0;
  size_t immediate_count_ = 0;
  std::optional<ExtentRequest> extent_request_;

  std::array<Answer, 8> answers_;
  size_t answer_count_ = 0;
  absl::Status last_error_;
  uint64_t applied_pages_ = 0;
  uint64_t received_bytes_ = 0;
  std::array<std::byte, kHeartbeatBytes> last_beat_{};
  uint64_t beat_counter_ = 0;
  int64_t next_beat_ns_ = 0;
  std::atomic<int64_t> alive_until_ns_{0};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_BACKUP_DRIVER_H_
