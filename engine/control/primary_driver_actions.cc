// SPDX-License-Identifier: Apache-2.0
//
// What the primary's state machine asks for, done on the real seams.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/control/primary_driver.h"

namespace haven {

namespace {

CaptureReport::Result ResultOf(CaptureResult::Outcome outcome) {
  switch (outcome) {
    case CaptureResult::Outcome::kCaptured:
      return CaptureReport::Result::kOk;
    case CaptureResult::Outcome::kTooLarge:
      return CaptureReport::Result::kTooLarge;
    case CaptureResult::Outcome::kFailed:
      return CaptureReport::Result::kFailed;
    case CaptureResult::Outcome::kGuestRuns:
      return CaptureReport::Result::kGuestRuns;
  }
  HAVEN_CHECK(false);
}

}  // namespace

void PrimaryDriver::RequestSuspend(uint32_t domain) {
  if (domain == 0) suspend_ns_ = clock_.NowNs();
  // A guest that can not be asked does not stop: the deadline says so, and CheckLife why.
  const absl::Status status = guests_[domain].suspend->Request();
  if (!status.ok()) last_error_ = status;
}

void PrimaryDriver::ResumeGuest(uint32_t domain) {
  if (domain == 0) resume_ns_ = running_ns_ = clock_.NowNs();
  const absl::Status status = guests_[domain].suspend->Resume();
  if (!status.ok()) last_error_ = status;
  // Looked at here for the sake of the times: the epoch is encoded before the next round.
  const bool runs =
      status.ok() && guests_[domain].suspend->Poll() == SuspendMethod::State::kRunning;
  if (!runs) {
    running_ns_ = kNever;
  } else if (running_ns_ != kNever) {
    running_ns_ = clock_.NowNs();
  }
}

void PrimaryDriver::QueueOutput(OutputOp op, const absl::Status& status) {
  HAVEN_CHECK_LT(answer_count_, answers_.size());
  if (!status.ok()) last_error_ = status;
  Answer& answer = answers_[answer_count_++];
  answer.kind = Answer::Kind::kOutput;
  answer.op = op;
  answer.status = status;
}

void PrimaryDriver::HoldOutput() { QueueOutput(OutputOp::kHold, output_.Hold()); }

void PrimaryDriver::Barrier() {
  const int64_t start_ns = clock_.NowNs();
  QueueOutput(OutputOp::kBarrier, output_.Barrier());
  times_->Record(Phase::kBarrier, clock_.NowNs() - start_ns);
}

void PrimaryDriver::ReleaseOutput() { QueueOutput(OutputOp::kRelease, output_.ReleaseOne()); }

void PrimaryDriver::OpenOutput() { QueueOutput(OutputOp::kOpen, output_.OpenAll()); }

// A buffer that is built anew lets out what was sent before, and that is committed unless somebody
// else has let a guest go on since.
void PrimaryDriver::RebuildOutput() {
  absl::Status status = absl::OkStatus();
  for (const GuestPorts& guest : guests_) {
    if (HAVEN_MUTANT(kRebuildBesideGuest)) break;
    if (guest.suspend->Poll() != SuspendMethod::State::kRunning) continue;
    status = absl::FailedPreconditionError(
        absl::StrCat("guest ", guest.domain->info().name,
                     ": somebody let it go on while its output buffer was to be built anew"));
  }
  if (status.ok()) status = output_.Rebuild();
  QueueOutput(OutputOp::kRebuild, status);
}

FetchResult PrimaryDriver::FetchLogs(EpochBuilder::Log log) {
  const FetchResult fetched = builder_->Fetch(log);
  NoteLostLog(fetched);
  return fetched;
}

FetchResult PrimaryDriver::FetchAndClear() {
  clear_ns_ = kNever;
  FetchResult fetched = FetchLogs(EpochBuilder::Log::kClear);
  if (fetched.status.ok()) log_keeper_.OnCleared();
  return fetched;
}

// Halfway to the next checkpoint: the guests have gone on by now, and will have faulted on what
// they write before they are stopped again.
void PrimaryDriver::PlanClearing() {
  clear_ns_ = kNever;
  if (!log_keeper_.ClearBetween() || primary_.next_epoch_ns() == kNever) return;
  const int64_t now_ns = clock_.NowNs();
  clear_ns_ = now_ns + (primary_.next_epoch_ns() - now_ns) / 2;
}

// Not while an epoch is on its way, whose acknowledgement would wait for this.
bool PrimaryDriver::MayClearLogs() const {
  return clear_ns_ != kNever && MarkApplies() && primary_.epoch_in_flight() == kNoEpoch;
}

void PrimaryDriver::ClearLogs(int64_t now_ns) {
  const int64_t planned_ns = std::exchange(clear_ns_, kNever);
  // Too late, and the guests would fault while they are stopped: the checkpoint sees to it.
  const int64_t next_ns = primary_.next_epoch_ns();
  if (next_ns == kNever || now_ns > planned_ns + (next_ns - planned_ns) / 2) return;
  // What can not be fetched the next checkpoint meets again, and acts on it.
  const FetchResult fetched = FetchAndClear();
  if (!fetched.status.ok()) {
    last_error_ = fetched.status;
    return;
  }
  ++counters_.cleared_logs;
  for (size_t i = 0; i < domains_.size() && HAVEN_MUTANT(kForgetCleared); ++i) {
    const std::span<uint64_t> pending = sets_->Pending(i);
    std::fill(pending.begin(), pending.end(), 0);
  }
}

FetchResult PrimaryDriver::FetchForCheckpoint() {
  clear_ns_ = kNever;
  int64_t looked_ns = 0;
  if (log_keeper_.Keep()) {
    const FetchResult looked = FetchLogs(EpochBuilder::Log::kKeep);
    if (!looked.status.ok()) return looked;
    const uint64_t pages = sets_->CountPending();
    if (log_keeper_.Fits(pages)) {
      log_keeper_.OnKept(pages);
      ++counters_.kept_logs;
      return looked;
    }
    looked_ns = looked.bitmap_ns;
  }
  log_keeper_.OnNotKept();
  FetchResult fetched = FetchLogs(EpochBuilder::Log::kClear);
  fetched.bitmap_ns += looked_ns;
  return fetched;
}

void PrimaryDriver::Capture(EpochKind kind) {
  HAVEN_CHECK(builder_ != nullptr);
  const bool checkpoint = kind == EpochKind::kCheckpoint;
  if (checkpoint) times_->Record(Phase::kSuspend, clock_.NowNs() - suspend_ns_);
  CaptureReport report;
  const FetchResult fetched = checkpoint ? FetchForCheckpoint() : FetchAndClear();
  if (!fetched.status.ok()) {
    last_error_ = fetched.status;
    report.result = CaptureReport::Result::kFailed;
  } else {
    const uint64_t limit =
        checkpoint ? shipper_->journal_slots() : shipper_->memory().geometry.ring_slots;
    const CaptureResult captured =
        builder_->Capture(kind, std::min<uint64_t>(limit, builder_->max_slots()));
    report.pages = captured.pages;
    report.result = ResultOf(captured.outcome);
    if (!captured.status.ok()) last_error_ = captured.status;
    if (checkpoint) {
      times_->Record(Phase::kBitmap, fetched.bitmap_ns + captured.plan_ns);
      times_->Record(Phase::kCopy, captured.copy_ns);
      times_->Record(Phase::kState, captured.state_ns);
    } else {
      report.pending_pages = sets_->CountPending();
      counters_.sync_pending_pages = report.pending_pages;
      counters_.sync_pages += captured.pages;
    }
    counters_.last_pages = captured.pages;
  }
  HAVEN_CHECK_LT(answer_count_, answers_.size());
  Answer& answer = answers_[answer_count_++];
  answer.kind = Answer::Kind::kCaptured;
  answer.report = report;
}

void PrimaryDriver::Send(const SendOrder& order) {
  HAVEN_CHECK(shipper_ != nullptr);
  const EncodeResult encoded = shipper_->Ship(order);
  ship_ns_ = clock_.NowNs();
  wired_ns_ = 0;
  if (order.kind == EpochKind::kCheckpoint) {
    times_->Record(Phase::kEncode, encoded.encode_ns);
    ++counters_.epochs;
    log_keeper_.OnEncoded(encoded.totals.page_count, encoded.wire_bytes, encoded.coded);
    PlanClearing();
  }
  counters_.last_wire_bytes = encoded.wire_bytes;
  if (std::exchange(first_of_link_, false)) {
    counters_.delta_pages = counters_.last_pages;
    counters_.delta_bytes = encoded.wire_bytes;
  }
  counters_.total_wire_bytes += encoded.wire_bytes;
  counters_.total_pages += encoded.totals.page_count;
  counters_.total_zero_pages += encoded.zero_pages;
}

// The codec's knowledge of the replica goes with the pages in flight.
void PrimaryDriver::CommitDirty() {
  sets_->DropInflight();
  if (codec_ != nullptr) codec_->Acknowledge(clock_.NowNs() - ship_ns_);
}

void PrimaryDriver::RestoreDirty() {
  sets_->RestoreInflight();
  if (codec_ != nullptr) codec_->Fail();
}

absl::Status PrimaryDriver::SetCodecMode(CodecMode mode) {
  if (codec_ == nullptr) {
    return absl::FailedPreconditionError(
        "the group is protected with --codec=off, for which no memory was set aside; protect it "
        "anew with another one");
  }
  codec_->SetMode(mode);
  return absl::OkStatus();
}

void PrimaryDriver::MarkAllDirty() { sets_->MarkAll(); }

void PrimaryDriver::OpenSession(SessionId session, const ReplicaBase& base) {
  // The copy would lack what the guest has now: the next look leaves it to another engine.
  if (!devices_.ok()) return;
  connector_.OpenSession(session, base);
}

void PrimaryDriver::OpenLink(SessionId, LinkNumber link) { connector_.OpenLink(link); }

void PrimaryDriver::CloseLink() {
  beat_link_ = nullptr;
  if (codec_ != nullptr) codec_->LoseLink();
  if (shipper_ != nullptr) shipper_->EndLink();
  connector_.CloseLink();
}

void PrimaryDriver::DropSession(SessionId session, DropReason reason, const char* cause) {
  connector_.Send(Drop{session, reason, cause});
  // Staging belongs to the session: nothing may look at it any more.
  shipper_.reset();
  builder_.reset();
  connector_.DropSession();
}

void PrimaryDriver::SendHandover(SessionId session, Epoch epoch) {
  connector_.Send(Handover{session, epoch});
}

void PrimaryDriver::Report(const char* cause) { observer_.OnReport(cause); }

}  // namespace haven
