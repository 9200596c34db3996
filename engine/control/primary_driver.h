// SPDX-License-Identifier: Apache-2.0
//
// Joins the primary's state machine to guests, output, data path and connections.
#ifndef HAVEN_ENGINE_CONTROL_PRIMARY_DRIVER_H_
#define HAVEN_ENGINE_CONTROL_PRIMARY_DRIVER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/control/backup_connector.h"
#include "engine/primary/codec_stage.h"
#include "engine/primary/copy_pool.h"
#include "engine/primary/dirty_sets.h"
#include "engine/primary/domain.h"
#include "engine/primary/epoch_builder.h"
#include "engine/primary/epoch_shipper.h"
#include "engine/primary/log_keeper.h"
#include "engine/primary/output_buffer.h"
#include "engine/primary/phase_times.h"
#include "engine/primary/primary.h"
#include "engine/primary/seal_stage.h"

namespace haven {

// One guest of the group. What is pointed to outlives the driver.
struct GuestPorts {
  Domain* domain = nullptr;
  SuspendMethod* suspend = nullptr;
};

struct PrimaryDriverOptions {
  PrimaryConfig protocol;
  uint64_t dirty_mark_pages = 0;  // 0: half of what staging holds.
  // Between looks at the dirty set near the mark; the further it is, the longer.
  int64_t mark_check_ns = 10 * kNsPerMs;
  int64_t life_check_ns = 20 * kNsPerMs;  // Between looks at guests' ends and the buffer's health.
  int64_t beat_ns = 20 * kNsPerMs;        // Between heartbeats on the control channel.
  // A poll that comes later than this: a stuck engine. A large epoch needs more: LongestStepNs().
  int64_t stuck_ns = 1 * kNsPerSecond;
  CodecStageOptions codec;
};

// Numbers of the session so far, for status and metrics.
struct PrimaryCounters {
  uint64_t epochs = 0;
  uint64_t sync_pages = 0;
  uint64_t sync_pending_pages = 0;
  uint64_t last_pages = 0;
  uint64_t last_wire_bytes = 0;
  uint64_t total_pages = 0;
  uint64_t total_zero_pages = 0;
  uint64_t total_wire_bytes = 0;
  uint64_t links = 0;
  uint64_t kept_logs = 0;     // Checkpoints that have left the logs of dirty pages as they were.
  uint64_t cleared_logs = 0;  // Times that these were cleared between two checkpoints instead.
  uint64_t delta_pages = 0;   // Of the first epoch on the newest link: what a re-arm cost,
  uint64_t delta_bytes = 0;   // ... and on the wire.
  int64_t last_pause_ns = 0;
};

// Sees every change; called from Poll().
class PrimaryObserver {
 public:
  virtual ~PrimaryObserver() = default;
  // `cause` is null if only numbers have changed.
  virtual void OnReport(const char* cause) = 0;
};

// Production and simulation run this very object. It has no thread and never waits: Poll() does
// what can be done now, NextWakeNs() says when to call again at the latest; production also calls
// when a descriptor is ready. Not thread-safe but for alive_until_ns().
class PrimaryDriver : private PrimaryActions {
 public:
  // All references outlive the driver.
  PrimaryDriver(const PrimaryDriverOptions& options, std::vector<GuestPorts> guests,
                OutputBuffer& output, BackupConnector& connector, ArbiterPort& arbiter,
                IdSource& ids, CopyPool& pool, const Clock& clock, PrimaryObserver& observer);
  ~PrimaryDriver() override;

  void Start(const std::optional<Register>& current);
  void OnArbiterAnswer(const RegisterAnswer& answer);
  void Poll();
  int64_t NextWakeNs() const;

  // True if polling again at once may be of use: something of this side is under way.
  bool busy() const;

  void Unprotect() { primary_.Unprotect(clock_.NowNs()); }
  absl::Status RequestHandover() { return primary_.Handover(clock_.NowNs()); }
  void SetInterval(int64_t interval_ns) { primary_.SetInterval(interval_ns, clock_.NowNs()); }
  // FailedPrecondition: this engine was started without the codec.
  absl::Status SetCodecMode(CodecMode mode);

  const Primary& primary() const { return primary_; }
  const PrimaryCounters& counters() const { return counters_; }
  const PhaseTimes& times() const { return *times_; }
  // Null: this engine was started without the codec.
  const CodecStage* codec() const { return codec_.get(); }
  // Why the last attempt to reach a backup failed, and what the data path last complained of.
  const absl::Status& last_error() const { return last_error_; }

  // OK, or why another engine has to go on: a guest has other memory than this one has mapped, or
  // other devices than it has described, and nothing that this one could still commit.
  const absl::Status& outdated() const { return outdated_; }

  // The heartbeat vouches for this engine until then. Any thread.
  int64_t alive_until_ns() const { return alive_until_ns_.load(std::memory_order_relaxed); }
  // The lane for heartbeats while a link is up, else null.
  Link* beat_link() const { return beat_link_; }
  // The epoch in flight does not fit the journal as it is filled now.
  bool waits_for_room() const { return shipper_ != nullptr && shipper_->waiting_for_room(); }
  const SessionMemory* session_memory() const { return shipper_ ? &shipper_->memory() : nullptr; }

 private:
  // Answers to actions, delivered when the state machine has returned.
  struct Answer {
    enum class Kind : uint8_t { kOutput, kCaptured } kind = Kind::kOutput;
    OutputOp op = OutputOp::kHold;
    absl::Status status;
    CaptureReport report;
  };

  // PrimaryActions, in primary_driver_actions.cc.
  void RequestSuspend(uint32_t domain) override;
  void ResumeGuest(uint32_t domain) override;
  void HoldOutput() override;
  void Barrier() override;
  void ReleaseOutput() override;
  void OpenOutput() override;
  void RebuildOutput() override;
  void Capture(EpochKind kind) override;
  void Send(const SendOrder& order) override;
  void CommitDirty() override;
  void RestoreDirty() override;
  void MarkAllDirty() override;
  void OpenSession(SessionId session, const ReplicaBase& base) override;
  void OpenLink(SessionId session, LinkNumber link) override;
  void CloseLink() override;
  void DropSession(SessionId session, DropReason reason, const char* cause) override;
  void SendHandover(SessionId session, Epoch epoch) override;
  void Report(const char* cause) override;

  void QueueOutput(OutputOp op, const absl::Status& status);
  bool DeliverAnswers();
  bool PollGuests();
  bool PollConnector();
  bool PollWire();
  void CheckLife(int64_t now_ns);
  void CheckMemory();
  void CheckDevices(int64_t now_ns);
  void NoteLostLog(const FetchResult& fetched);
  FetchResult FetchLogs(EpochBuilder::Log log);
  FetchResult FetchAndClear();
  FetchResult FetchForCheckpoint();
  void PlanClearing();
  bool MayClearLogs() const;
  void ClearLogs(int64_t now_ns);
  uint64_t DirtyMark() const;
  void RunTimers(int64_t now_ns);
  void CheckMark(int64_t now_ns);
  absl::StatusOr<uint64_t> CountDirty(uint64_t mark);
  void SendBeat(int64_t now_ns);
  void TakeSession(const SessionOpened& opened);
  void TakeLink(const LinkOpened& opened);
  void TakeMessage(const ControlMessage& message);
  bool MarkApplies() const;

  const PrimaryDriverOptions options_;
  std::vector<GuestPorts> guests_;
  OutputBuffer& output_;
  BackupConnector& connector_;
  const Clock& clock_;
  PrimaryObserver& observer_;
  CopyPool& pool_;
  Primary primary_;

  std::vector<Domain*> domains_;
  std::unique_ptr<DirtySets> sets_;
  std::unique_ptr<CodecStage> codec_;
  std::unique_ptr<SealStage> seal_;  // Null: the session is not sealed.
  std::unique_ptr<EpochBuilder> builder_;
  std::unique_ptr<EpochShipper> shipper_;
  LogKeeper log_keeper_{0};
  std::unique_ptr<PhaseTimes> times_;
  Link* beat_link_ = nullptr;
  bool log_dirty_ = false;
  bool first_of_link_ = false;

  std::array<Answer, 16> answers_;
  size_t answer_count_ = 0;

  PrimaryCounters counters_;
  absl::Status last_error_;
  absl::Status outdated_;
  absl::Status devices_;  // Not OK: a guest has others than this engine has described.
  std::array<std::byte, kHeartbeatBytes> last_beat_{};
  uint64_t beat_counter_ = 0;
  int64_t next_life_ns_ = 0;
  int64_t next_mark_ns_ = 0;
  int64_t next_beat_ns_ = 0;
  int64_t mark_interval_ns_ = 0;
  int64_t clear_ns_ = kNever;  // The logs are to be cleared, between two checkpoints.
  int64_t suspend_ns_ = 0;
  int64_t resume_ns_ = 0;
  int64_t running_ns_ =
      0;  // All guests were seen running by then; kNever: not when they were resumed.
  int64_t ship_ns_ = 0;
  int64_t wired_ns_ = 0;
  std::atomic<int64_t> alive_until_ns_{0};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_PRIMARY_DRIVER_H_
