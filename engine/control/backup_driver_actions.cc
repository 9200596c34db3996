// SPDX-License-Identifier: Apache-2.0
//
// What the backup's state machine asks for, done on the real seams.
#include <algorithm>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/base/status_macros.h"
#include "engine/control/backup_driver.h"
#include "engine/replica/features.h"

namespace haven {

void BackupDriver::AcceptSession(SessionId session, bool base) {
  // A replica is empty of epochs at the start of a session: nothing is on its way to the applier.
  reader_.reset();
  writer_.reset();
  extent_request_.reset();
  ledger_ = std::make_unique<SlotLedger>(parts_.geometry);
  states_ = std::make_unique<StateStore>(parts_.max_state_bytes);
  JournalReader::Options options;
  options.region = parts_.journal.bytes;
  options.geometry = parts_.geometry;
  options.session = session;
  options.base_epoch = backup_.committed();
  options.replicas = parts_.replicas;
  options.ledger = ledger_.get();
  options.states = states_.get();
  options.features = parts_.agreement.features;
  if (IsSealed(options.features)) {
    options.seal_key = connector_.SealKeyOf(session);
    HAVEN_CHECK(options.seal_key.has_value()) << "session=" << session;
    applier_->Rekey(*options.seal_key);
  }
  reader_ = std::make_unique<JournalReader>(std::move(options));
  Welcome welcome;
  welcome.agreement = parts_.agreement;
  welcome.node_id = parts_.node_id;
  welcome.session = session;
  welcome.geometry = parts_.geometry;
  welcome.journal_region = parts_.journal_offer;
  welcome.session_address = parts_.session_address;
  welcome.base_accepted = base;
  welcome.base_epoch = base ? backup_.committed() : kNoEpoch;
  connector_.Accept(welcome);
}

void BackupDriver::RefuseSession(SessionId, const char* cause) {
  connector_.Refuse({RefuseCode::kNotReady, cause});
}

void BackupDriver::OfferLink(SessionId session, LinkNumber link, Epoch committed) {
  CloseLink();
  HAVEN_CHECK_EQ(committed, reader_->committed_epoch());
  LinkOffer offer;
  offer.session = session;
  offer.link = link;
  offer.committed_epoch = committed;
  offer.applied_epoch = backup_.applied();
  offer.next_position = ledger_->next();
  offer.ring_tail = ledger_->tail();
  connector_.OfferLink(std::move(offer));
}

void BackupDriver::CloseLink() {
  link_ = nullptr;
  beat_link_ = nullptr;
  immediate_count_ = 0;
  extent_request_.reset();
  if (writer_.has_value()) writer_->EndLink();
  connector_.CloseLinks();
}

void BackupDriver::Acknowledge(SessionId, LinkNumber, Epoch epoch) {
  writer_->SetCommitted(epoch);
  const absl::Status status = writer_->Publish(/*wake=*/true);
  if (!status.ok()) last_error_ = status;  // The link's completion says so too.
}

void BackupDriver::Apply(Epoch epoch) {
  HAVEN_CHECK_GT(waiting_count_, 0u);
  HAVEN_CHECK_EQ(waiting_[waiting_count_ - 1].epoch.epoch(), epoch);
  SubmitWaiting(/*all=*/false);
}

// Keeps an epoch that the reader has committed until the applier gets it.
void BackupDriver::Remember(const VerifiedEpoch& epoch) {
  HAVEN_CHECK_LT(waiting_count_, waiting_.size());
  waiting_[waiting_count_++] = Waiting{epoch, clock_.NowNs()};
  applied_pages_ += epoch.record.totals.page_count;
  received_bytes_ += epoch.record.totals.payload_bytes;
}

bool BackupDriver::SubmitWaiting(bool all) {
  size_t taken = 0;
  while (taken < waiting_count_ && applier_->CanSubmit() &&
         (all || clock_.NowNs() >= waiting_[taken].since_ns + apply_delay_ns_)) {
    applier_->Submit(waiting_[taken++].epoch);
  }
  std::move(waiting_.begin() + static_cast<ptrdiff_t>(taken),
            waiting_.begin() + static_cast<ptrdiff_t>(waiting_count_), waiting_.begin());
  waiting_count_ -= taken;
  return taken > 0;
}

void BackupDriver::Queue(Answer::Kind kind, const absl::Status& status) {
  HAVEN_CHECK_LT(answer_count_, answers_.size());
  if (!status.ok()) last_error_ = status;
  answers_[answer_count_++] = Answer{kind, status, kNoEpoch, EpochKind::kSync};
}

void BackupDriver::CutOff() {
  // The proof first, then this side's ends: until the proof the old writer may still be at work.
  const absl::Status status = connector_.Revoke();
  CloseLink();
  Queue(Answer::Kind::kCutOff, status);
}

void BackupDriver::ReadFinal() {
  SubmitWaiting(/*all=*/true);
  const absl::Status drained = applier_->Drain();
  if (!drained.ok()) last_error_ = drained;
  PollApplier();
  Queue(Answer::Kind::kFinal, absl::OkStatus());
  if (!drained.ok()) return;
  absl::StatusOr<VerifiedEpoch> last = reader_->TryFinal();
  if (!last.ok()) {
    if (!absl::IsNotFound(last.status())) last_error_ = last.status();
    return;
  }
  answers_[answer_count_ - 1].epoch = last->epoch();
  answers_[answer_count_ - 1].epoch_kind = last->kind();
  Remember(*last);
}

void BackupDriver::Prepare() {
  applier_->Join();
  absl::Status status = applier_->status();
  if (status.ok() && states_->epoch() != backup_.applied()) {
    status = absl::InternalError("the newest state is not that of the last applied epoch");
  }
  for (size_t i = 0; i < parts_.replicas.size() && status.ok(); ++i) {
    status = parts_.replicas[i]->Prepare(states_->state(static_cast<uint16_t>(i)));
  }
  if (status.ok() && !HAVEN_MUTANT(kOutliveTooLate)) status = Outlive();
  Queue(Answer::Kind::kPrepared, status);
}

// When all of them are complete: whoever finds some can tell.
absl::Status BackupDriver::Outlive() {
  for (ReplicaDomain* replica : parts_.replicas) HAVEN_RETURN_IF_ERROR(replica->Outlive());
  return absl::OkStatus();
}

void BackupDriver::Run() {
  // Each of them, whatever became of the others: the old copies may be gone already.
  absl::Status status = HAVEN_MUTANT(kOutliveTooLate) ? Outlive() : absl::OkStatus();
  for (ReplicaDomain* replica : parts_.replicas) {
    const absl::Status ran = replica->Run();
    if (!absl::IsNotFound(ran)) {
      status.Update(ran);
      continue;
    }
    // It can not be had any more: for its guard it is a guest that has ended by itself.
    last_error_ = ran;
    Report("a copy was destroyed by somebody else before it could run");
  }
  Queue(Answer::Kind::kRunning, status);
}

void BackupDriver::Abandon() {
  applier_->Join();
  absl::Status status;
  for (ReplicaDomain* replica : parts_.replicas) status.Update(replica->Abandon());
  Queue(Answer::Kind::kAbandoned, status);
}

void BackupDriver::SendHandoverRefused(SessionId session) {
  connector_.Send(HandoverRefused{session, "this replica can not take over now"});
}

void BackupDriver::SendPromoted(SessionId session, Term term) {
  connector_.Send(Promoted{session, term});
}

void BackupDriver::SendDrop(SessionId session, const char* cause) {
  connector_.Send(Drop{session, DropReason::kReplica, cause});
}

void BackupDriver::Report(const char* cause) { observer_.OnReport(cause); }

}  // namespace haven
