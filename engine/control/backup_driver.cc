// SPDX-License-Identifier: Apache-2.0
#include "engine/control/backup_driver.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/replica/control_block.h"
#include "engine/replica/immediate.h"

namespace haven {

namespace {

constexpr int kRoundsMax = 64;
// Of the connector's events: the peer can send for as long as it likes.
constexpr int kEventsPerRound = 16;

absl::Status LinkError(LinkNumber number, CompletionResult result) {
  const auto error = [number](const char* what) {
    return absl::UnavailableError(
        absl::StrCat("link ", number, " to the primary has failed: ", what));
  };
  switch (result) {
    case CompletionResult::kPermission:
      return error("the primary has taken the permission away");
    case CompletionResult::kRetry:
    case CompletionResult::kFlushed:
      return error("the primary does not answer, or has ended the link");
    case CompletionResult::kOk:
    case CompletionResult::kOther:
      break;
  }
  return error("the device reports an error");
}

}  // namespace

absl::StatusOr<std::unique_ptr<BackupDriver>> BackupDriver::Create(
    const BackupDriverOptions& options, ReplicaParts parts, PrimaryConnector& connector,
    ArbiterPort& arbiter, IdSource& ids, const Clock& clock, BackupObserver& observer) {
  Applier::Options apply;
  apply.region = parts.journal.bytes;
  apply.geometry = parts.geometry;
  apply.replicas = parts.replicas;
  apply.threads = options.apply_threads;
  apply.recheck_crc = options.recheck_crc;
  apply.coded_pages = (parts.agreement.features & kCodecFeatures) != 0;
  apply.sealed = IsSealed(parts.agreement.features);
  absl::StatusOr<std::unique_ptr<Applier>> applier = Applier::Create(std::move(apply));
  if (!applier.ok()) return applier.status();
  return std::unique_ptr<BackupDriver>(new BackupDriver(
      options, std::move(parts), connector, arbiter, ids, clock, observer, *std::move(applier)));
}

BackupDriver::BackupDriver(const BackupDriverOptions& options, ReplicaParts parts,
                           PrimaryConnector& connector, ArbiterPort& arbiter, IdSource& ids,
                           const Clock& clock, BackupObserver& observer,
                           std::unique_ptr<Applier> applier)
    : options_(options),
      parts_(std::move(parts)),
      connector_(connector),
      clock_(clock),
      observer_(observer),
      backup_(options.protocol, *this, arbiter, ids),
      applier_(std::move(applier)) {}

void BackupDriver::Start(const Hello& hello) {
  backup_.OnHello(hello.session, hello.base_session, hello.base_epoch, clock_.NowNs());
  Poll();
}

void BackupDriver::OnArbiterAnswer(const RegisterAnswer& answer) {
  backup_.OnArbiterAnswer(answer, clock_.NowNs());
  Poll();
}

void BackupDriver::Poll() {
  alive_until_ns_.store(clock_.NowNs() + options_.stuck_ns, std::memory_order_relaxed);
  for (int round = 0; round < kRoundsMax; ++round) {
    bool progress = DeliverAnswers();
    progress |= PollConnector();
    progress |= PollWire();
    progress |= PollApplier();
    const int64_t now_ns = clock_.NowNs();
    LookAtBeat(now_ns);
    if (now_ns >= next_beat_ns_) SendBeat(now_ns);
    if (now_ns >= backup_.NextWakeNs()) {
      backup_.OnTick(now_ns);
      progress = true;
    }
    if (!progress && answer_count_ == 0) return;
  }
}

int64_t BackupDriver::NextWakeNs() const {
  const int64_t wake = std::min(backup_.NextWakeNs(), next_beat_ns_);
  const bool waiting = waiting_count_ > 0 && applier_->CanSubmit();
  return waiting ? std::min(wake, waiting_[0].since_ns + apply_delay_ns_) : wake;
}

bool BackupDriver::DeliverAnswers() {
  const size_t count = answer_count_;
  for (size_t i = 0; i < answer_count_; ++i) {
    const Answer answer = answers_[i];
    const int64_t now_ns = clock_.NowNs();
    switch (answer.kind) {
      case Answer::Kind::kCutOff:
        backup_.OnCutOff(answer.status);
        break;
      case Answer::Kind::kFinal:
        backup_.OnFinalRead(answer.epoch, answer.epoch_kind);
        break;
      case Answer::Kind::kPrepared:
        backup_.OnPrepared(answer.status, now_ns);
        break;
      case Answer::Kind::kRunning:
        backup_.OnRunning(answer.status, now_ns);
        break;
      case Answer::Kind::kAbandoned:
        backup_.OnAbandoned(answer.status, now_ns);
        break;
    }
  }
  answer_count_ = 0;
  return count > 0;
}

bool BackupDriver::PollConnector() {
  bool progress = false;
  for (int i = 0; i < kEventsPerRound; ++i) {
    std::optional<PrimaryEvent> event = connector_.Next();
    if (!event.has_value()) break;
    progress = true;
    const int64_t now_ns = clock_.NowNs();
    if (const auto* hello = std::get_if<HelloArrived>(&*event)) {
      backup_.OnHello(hello->hello.session, hello->hello.base_session, hello->hello.base_epoch,
                      now_ns);
    } else if (const auto* asked = std::get_if<LinkAsked>(&*event)) {
      backup_.OnLinkRequest(asked->session, asked->number, now_ns);
    } else if (const auto* made = std::get_if<LinkMade>(&*event)) {
      TakeLink(*made);
    } else if (const auto* unmade = std::get_if<LinkUnmade>(&*event)) {
      if (unmade->number == link_number_ && link_ != nullptr) LinkFailed(unmade->cause);
    } else if (const auto* said = std::get_if<PrimarySaid>(&*event)) {
      TakeMessage(said->message);
    }
    DeliverAnswers();
  }
  return progress;
}

void BackupDriver::TakeLink(const LinkMade& made) {
  if (made.number != backup_.link() || reader_ == nullptr) return;
  link_number_ = made.number;
  link_ = made.data;
  peer_block_ = made.peer_block;
  immediate_first_ = 0;
  immediate_count_ = 0;
  reader_->BeginLink(made.number);
  writer_.emplace(backup_.session(), parts_.scratch, 0, made.peer_block);
  writer_->BeginLink(made.number, link_);
  writer_->SetState(WireState());
  if (backup_.committed() != kNoEpoch) writer_->SetCommitted(backup_.committed());
  writer_->SetApplied(backup_.applied(), ledger_->tail());
  absl::Status status = writer_->GrantCredits(kCredits);
  // The primary looks by itself when it opens the link, and may not be ready to be woken before.
  if (status.ok()) status = writer_->Publish(/*wake=*/false);
  backup_.OnLinkUp(made.number, clock_.NowNs());
  if (!backup_.link_up()) return CloseLink();  // The session takes no more epochs.
  beat_link_ = made.beats;
  if (!status.ok()) LinkFailed(status);
}

void BackupDriver::LinkFailed(const absl::Status& cause) {
  if (!cause.ok()) last_error_ = cause;
  backup_.OnLinkDown(link_number_);
}

void BackupDriver::TakeMessage(const ControlMessage& message) {
  const int64_t now_ns = clock_.NowNs();
  if (const auto* beat = std::get_if<HeartbeatMessage>(&message)) {
    if (beat->session == backup_.session()) backup_.OnPeerSign(now_ns);
  } else if (const auto* request = std::get_if<ExtentRequest>(&message)) {
    if (request->session != backup_.session() || request->link != link_number_) return;
    if (link_ == nullptr) return;
    extent_request_ = *request;
    GrantExtents();
  } else if (const auto* handover = std::get_if<Handover>(&message)) {
    backup_.OnHandover(handover->session, handover->epoch, now_ns);
  } else if (const auto* drop = std::get_if<Drop>(&message)) {
    backup_.OnDrop(drop->session, drop->reason, now_ns);
  }
}

// Grants what was asked for as soon as there is enough; what can never be granted ends the link.
void BackupDriver::GrantExtents() {
  if (!extent_request_.has_value()) return;
  const ExtentRequest request = *extent_request_;
  std::vector<uint32_t> extents(request.extents);
  const absl::Status status = ledger_->GrantExtents(request.epoch, extents);
  if (absl::IsResourceExhausted(status) && request.extents <= parts_.geometry.extents()) return;
  extent_request_.reset();
  if (!status.ok()) return LinkFailed(status);
  connector_.Send(ExtentGrant{request.session, request.link, request.epoch, std::move(extents)});
}

bool BackupDriver::PollWire() {
  if (link_ == nullptr) return false;
  bool progress = false;
  std::array<Completion, 32> completions;
  const size_t count = link_->Poll(completions);
  for (size_t i = 0; i < count && link_ != nullptr; ++i) {
    const Completion& completion = completions[i];
    progress = true;
    absl::Status status;
    if (completion.kind == CompletionKind::kImmediate &&
        completion.result == CompletionResult::kOk) {
      if (immediate_count_ == immediates_.size()) {
        LinkFailed(absl::DataLossError(
            absl::StrCat("link ", link_number_, ": the primary sends more immediates than the ",
                         kCredits, " that it was granted; look at its log")));
        break;
      }
      immediates_[(immediate_first_ + immediate_count_++) % immediates_.size()] =
          completion.immediate;
      backup_.OnPeerSign(clock_.NowNs());
    } else if (!writer_->OnCompletion(completion, &status) &&
               completion.result != CompletionResult::kOk) {
      status = LinkError(link_number_, completion.result);
    }
    if (!status.ok()) LinkFailed(status);
  }
  progress |= TakeImmediates();
  if (link_ != nullptr && writer_->pending()) {
    const absl::Status status = writer_->Flush();
    if (!status.ok()) LinkFailed(status);
  }
  return progress;
}

// Verifies what the immediates announce, as long as there is room for another committed epoch.
bool BackupDriver::TakeImmediates() {
  bool progress = false;
  uint32_t taken = 0;
  while (link_ != nullptr && immediate_count_ > 0 && !ledger_->full()) {
    const uint32_t immediate = immediates_[immediate_first_];
    immediate_first_ = (immediate_first_ + 1) % immediates_.size();
    --immediate_count_;
    ++taken;
    progress = true;
    absl::StatusOr<std::optional<VerifiedEpoch>> result = reader_->OnImmediate(immediate);
    if (!result.ok()) {
      last_error_ = result.status();
      if (HAVEN_MUTANT(kCommitBeforeData) && IsCommitImmediate(immediate)) {
        Acknowledge(backup_.session(), link_number_, immediate & ~kCommitImmediateBit);
        return true;
      }
      if (absl::IsAborted(result.status())) {
        backup_.OnCopyLost(clock_.NowNs());
      } else {
        backup_.OnBadEpoch();
      }
      return true;
    }
    if (!result->has_value()) continue;
    const VerifiedEpoch& verified = **result;
    Remember(verified);
    writer_->SetState(WireState());
    backup_.OnVerified(verified.epoch(), verified.kind(), clock_.NowNs());
  }
  if (taken == 0 || link_ == nullptr) return progress;
  absl::Status status = writer_->GrantCredits(taken);
  if (status.ok()) status = writer_->Publish(/*wake=*/false);
  if (!status.ok()) LinkFailed(status);
  return progress;
}

bool BackupDriver::PollApplier() {
  bool progress = SubmitWaiting(/*all=*/false);
  while (std::optional<AppliedEpoch> done = applier_->PopFinished()) {
    progress = true;
    if (done->status.ok()) {
      ledger_->Release(done->epoch);
    } else {
      last_error_ = done->status;
    }
    backup_.OnApplied(done->epoch, done->status);
    if (!done->status.ok() || link_ == nullptr) continue;
    writer_->SetApplied(done->epoch, ledger_->tail());
    GrantExtents();
    if (link_ == nullptr) continue;
    const absl::Status status = writer_->Publish(/*wake=*/true);
    if (!status.ok()) LinkFailed(status);
  }
  return progress;
}

// The primary's heartbeat thread writes its section of the control block; any change is a sign of
// life.
void BackupDriver::LookAtBeat(int64_t now_ns) {
  const std::span<const std::byte> beat = std::span<const std::byte>(parts_.journal.bytes)
                                              .subspan(kPrimaryHeartbeatOffset, kHeartbeatBytes);
  if (std::equal(beat.begin(), beat.end(), last_beat_.begin())) return;
  std::array<std::byte, kHeartbeatBytes> copy;
  std::copy(beat.begin(), beat.end(), copy.begin());
  Heartbeat heartbeat;
  if (!DecodeHeartbeat(HeartbeatSender::kPrimary, copy, &heartbeat).ok()) return;
  last_beat_ = copy;
  if (heartbeat.session == backup_.session()) backup_.OnPeerSign(now_ns);
}

void BackupDriver::SendBeat(int64_t now_ns) {
  next_beat_ns_ = now_ns + options_.beat_ns;
  if (backup_.session() == kNoSession || backup_.end() != BackupEnd::kNotYet) return;
  connector_.Send(HeartbeatMessage{backup_.session(), HeartbeatSender::kBackup,
                                   static_cast<uint32_t>(WireState()), ++beat_counter_});
}

BackupState BackupDriver::WireState() const {
  switch (backup_.state()) {
    case Backup::State::kWaiting:
    case Backup::State::kAdopting:
    case Backup::State::kSyncing:
      return BackupState::kSyncing;
    case Backup::State::kStandby:
    case Backup::State::kStale:
      return BackupState::kStandby;
    case Backup::State::kClaiming:
      return BackupState::kSuspecting;
    case Backup::State::kAbandoning:
    case Backup::State::kEnded:
      return BackupState::kFailed;
    default:
      return BackupState::kPromoting;
  }
}

}  // namespace haven
