// SPDX-License-Identifier: Apache-2.0
#include "engine/control/primary_driver.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/control/status_words.h"

namespace haven {

namespace {

// Poll() returns after so many rounds even if there is always something new, so that the caller's
// loop sees its other descriptors.
constexpr int kRoundsMax = 64;
// Of the connector's events: the peer can send for as long as it likes.
constexpr int kEventsPerRound = 16;

// No guest is expected to dirty pages faster than this: the first write to each one is a fault.
constexpr int64_t kNsPerDirtyPage = 1000;
// Looks at the dirty set are at most this far apart.
constexpr int64_t kMarkCheckMaxNs = 200 * kNsPerMs;

std::vector<const GuestMemory*> Memories(const std::vector<Domain*>& domains) {
  std::vector<const GuestMemory*> memories;
  for (const Domain* domain : domains) memories.push_back(&domain->memory());
  return memories;
}

std::vector<uint64_t> PageCounts(const std::vector<Domain*>& domains) {
  std::vector<uint64_t> counts;
  for (const Domain* domain : domains) counts.push_back(domain->memory().page_count());
  return counts;
}

std::vector<Domain*> Domains(const std::vector<GuestPorts>& guests) {
  std::vector<Domain*> domains;
  for (const GuestPorts& guest : guests) domains.push_back(guest.domain);
  return domains;
}

}  // namespace

PrimaryDriver::PrimaryDriver(const PrimaryDriverOptions& options, std::vector<GuestPorts> guests,
                             OutputBuffer& output, BackupConnector& connector, ArbiterPort& arbiter,
                             IdSource& ids, CopyPool& pool, const Clock& clock,
                             PrimaryObserver& observer)
    : options_(options),
      guests_(std::move(guests)),
      output_(output),
      connector_(connector),
      clock_(clock),
      observer_(observer),
      pool_(pool),
      primary_(options.protocol, *this, arbiter, ids),
      domains_(Domains(guests_)),
      times_(std::make_unique<PhaseTimes>()) {
  HAVEN_CHECK_EQ(guests_.size(), options.protocol.domains);
  sets_ = std::make_unique<DirtySets>(Memories(domains_));
  if (options.codec.enabled) {
    codec_ = std::make_unique<CodecStage>(options.codec, PageCounts(domains_), pool.workers() + 1);
  }
}

PrimaryDriver::~PrimaryDriver() {
  if (!log_dirty_) return;
  for (Domain* domain : domains_) domain->DisableLogDirty();
}

void PrimaryDriver::Start(const std::optional<Register>& current) {
  primary_.Start(current, clock_.NowNs());
  Poll();
}

void PrimaryDriver::OnArbiterAnswer(const RegisterAnswer& answer) {
  primary_.OnArbiterAnswer(answer, clock_.NowNs());
  Poll();
}

void PrimaryDriver::Poll() {
  alive_until_ns_.store(clock_.NowNs() + options_.stuck_ns, std::memory_order_relaxed);
  for (int round = 0; round < kRoundsMax; ++round) {
    bool progress = DeliverAnswers();
    progress |= PollConnector();
    progress |= PollGuests();
    progress |= PollWire();
    const int64_t now_ns = clock_.NowNs();
    RunTimers(now_ns);
    if (now_ns >= primary_.NextWakeNs()) {
      primary_.OnTick(now_ns);
      progress = true;
    }
    if (!progress && answer_count_ == 0) return;
  }
}

// What comes soon is taken along: from then on they come together, and wake the thread once.
void PrimaryDriver::RunTimers(int64_t now_ns) {
  if (now_ns >= clear_ns_ && MayClearLogs()) ClearLogs(now_ns);
  if (now_ns < std::min({next_life_ns_, next_beat_ns_, next_mark_ns_})) return;
  if (now_ns >= next_life_ns_ - options_.life_check_ns / 4) CheckLife(now_ns);
  if (now_ns >= next_mark_ns_ - mark_interval_ns_ / 4) CheckMark(now_ns);
  if (now_ns >= next_beat_ns_ - options_.beat_ns / 4) SendBeat(now_ns);
}

int64_t PrimaryDriver::NextWakeNs() const {
  int64_t wake = std::min({primary_.NextWakeNs(), next_life_ns_, next_beat_ns_});
  if (MarkApplies()) wake = std::min(wake, next_mark_ns_);
  if (MayClearLogs()) wake = std::min(wake, clear_ns_);
  return wake;
}

bool PrimaryDriver::busy() const {
  return primary_.phase() == Primary::Phase::kStopping ||
         primary_.phase() == Primary::Phase::kResuming ||
         primary_.phase() == Primary::Phase::kTakingBack || primary_.epoch_in_flight() != kNoEpoch;
}

bool PrimaryDriver::DeliverAnswers() {
  const size_t count = answer_count_;
  for (size_t i = 0; i < answer_count_; ++i) {
    const Answer answer = answers_[i];
    const int64_t now_ns = clock_.NowNs();
    if (answer.kind == Answer::Kind::kOutput) {
      primary_.OnOutput(answer.op, answer.status, now_ns);
    } else {
      primary_.OnCaptured(answer.report, now_ns);
    }
  }
  answer_count_ = 0;
  return count > 0;
}

bool PrimaryDriver::PollGuests() {
  const Primary::Phase phase = primary_.phase();
  const bool stopping = phase == Primary::Phase::kStopping;
  if (!stopping && phase != Primary::Phase::kResuming && phase != Primary::Phase::kTakingBack) {
    return false;
  }
  bool progress = false;
  for (uint32_t i = 0; i < guests_.size() && primary_.phase() == phase; ++i) {
    const SuspendMethod::State state = guests_[i].suspend->Poll();
    const int64_t now_ns = clock_.NowNs();
    if (state == SuspendMethod::State::kGone) {
      primary_.OnGuestEnded(i, now_ns);
    } else if (stopping && state == SuspendMethod::State::kSuspended) {
      primary_.OnGuestSuspended(i, now_ns);
    } else if (!stopping && state == SuspendMethod::State::kRunning) {
      primary_.OnGuestRunning(i, now_ns);
    }
    progress |= primary_.phase() != phase;
  }
  if (progress && phase == Primary::Phase::kResuming) {
    const int64_t end_ns = running_ns_ == kNever ? clock_.NowNs() : running_ns_;
    times_->Record(Phase::kResume, end_ns - resume_ns_);
    counters_.last_pause_ns = end_ns - suspend_ns_;
  }
  return progress;
}

bool PrimaryDriver::PollConnector() {
  bool progress = false;
  for (int i = 0; i < kEventsPerRound; ++i) {
    std::optional<ConnectorEvent> event = connector_.Next();
    if (!event.has_value()) break;
    progress = true;
    const int64_t now_ns = clock_.NowNs();
    if (const auto* opened = std::get_if<SessionOpened>(&*event)) {
      TakeSession(*opened);
    } else if (const auto* failed = std::get_if<SessionFailed>(&*event)) {
      last_error_ = failed->cause;
      primary_.OnSession(failed->session, false, false, now_ns);
    } else if (const auto* link = std::get_if<LinkOpened>(&*event)) {
      TakeLink(*link);
    } else if (const auto* broken = std::get_if<LinkFailed>(&*event)) {
      last_error_ = broken->cause;
      primary_.OnLinkDown(broken->number, now_ns);
    } else if (const auto* message = std::get_if<MessageArrived>(&*event)) {
      TakeMessage(message->message);
    } else if (const auto* lost = std::get_if<ChannelLost>(&*event)) {
      last_error_ = lost->cause;
    }
    DeliverAnswers();
  }
  return progress;
}

void PrimaryDriver::TakeSession(const SessionOpened& opened) {
  const int64_t now_ns = clock_.NowNs();
  const SessionId session = opened.memory.session;
  for (Domain* domain : domains_) {
    if (log_dirty_) break;
    const absl::Status status = domain->EnableLogDirty();
    if (status.ok()) continue;
    last_error_ = status;
    for (Domain* other : domains_) other->DisableLogDirty();
    return primary_.OnSession(session, false, false, now_ns);
  }
  const absl::Status prepared = output_.Prepare();
  if (!prepared.ok()) last_error_ = prepared;
  shipper_.reset();
  builder_.reset();
  seal_.reset();
  if (IsSealed(opened.memory.features)) {
    absl::StatusOr<std::unique_ptr<SealStage>> seal =
        SealStage::Create(opened.memory.seal_key, pool_.workers());
    if (!seal.ok()) {
      last_error_ = seal.status();
      return primary_.OnSession(session, false, false, now_ns);
    }
    seal_ = *std::move(seal);
  }
  if (codec_ != nullptr) {
    const absl::Status status = codec_->BeginSession(
        opened.memory.features, opened.memory.image.bytes, opened.memory.geometry.slot_bytes);
    if (!status.ok()) {
      last_error_ = status;
      return primary_.OnSession(session, false, false, now_ns);
    }
  }
  // A log that was off has seen nothing: what an older replica lacks is unknown.
  const bool log_was_on = std::exchange(log_dirty_, true);
  builder_ = std::make_unique<EpochBuilder>(domains_, *sets_, opened.memory.staging.bytes,
                                            opened.memory.geometry.slot_bytes, pool_, clock_,
                                            codec_.get(), seal_.get());
  shipper_ = std::make_unique<EpochShipper>(opened.memory, *builder_,
                                            seal_ == nullptr ? nullptr : &seal_->records());
  log_keeper_ = LogKeeper(DirtyMark() / 2);
  clear_ns_ = kNever;
  counters_.sync_pages = 0;
  primary_.OnSession(session, true, opened.base_accepted && log_was_on, now_ns);
}

void PrimaryDriver::TakeLink(const LinkOpened& opened) {
  const int64_t now_ns = clock_.NowNs();
  if (shipper_ == nullptr || opened.number != primary_.link()) return;
  const absl::Status status =
      shipper_->BeginLink(opened.number, *opened.data, opened.next_position, opened.ring_tail);
  if (!status.ok()) {
    last_error_ = status;
    return primary_.OnLinkDown(opened.number, now_ns);
  }
  beat_link_ = opened.beats;
  first_of_link_ = true;
  ++counters_.links;
  primary_.OnLinkUp(opened.number, opened.committed, now_ns);
}

void PrimaryDriver::TakeMessage(const ControlMessage& message) {
  const int64_t now_ns = clock_.NowNs();
  if (const auto* beat = std::get_if<HeartbeatMessage>(&message)) {
    if (beat->session == primary_.session()) primary_.OnPeerSign(now_ns);
  } else if (const auto* grant = std::get_if<ExtentGrant>(&message)) {
    if (shipper_ == nullptr || grant->session != primary_.session()) return;
    const absl::Status status = shipper_->OnExtents(grant->link, grant->epoch, grant->extents);
    if (status.ok()) return;
    last_error_ = status;
    primary_.OnLinkDown(grant->link, now_ns);
  } else if (const auto* refused = std::get_if<HandoverRefused>(&message)) {
    last_error_ = absl::FailedPreconditionError(refused->reason);
    primary_.OnHandoverRefused(refused->session, now_ns);
  } else if (const auto* promoted = std::get_if<Promoted>(&message)) {
    if (promoted->session == primary_.session()) primary_.OnPeerPromoted(now_ns);
  } else if (const auto* drop = std::get_if<Drop>(&message)) {
    last_error_ = absl::UnavailableError(drop->message);
    primary_.OnSessionLost(drop->session, now_ns);
  }
}

bool PrimaryDriver::PollWire() {
  if (shipper_ == nullptr || primary_.link_state() != Primary::LinkState::kUp) return false;
  const EpochShipper::News news = shipper_->Poll();
  const int64_t now_ns = clock_.NowNs();
  if (news.wired) {
    wired_ns_ = now_ns;
    times_->Record(Phase::kWire, now_ns - ship_ns_);
  }
  if (news.progress) primary_.OnSendProgress(now_ns);
  if (news.extents_wanted > 0) {
    connector_.Send(ExtentRequest{primary_.session(), primary_.link(), primary_.epoch_in_flight(),
                                  news.extents_wanted});
  }
  bool progress = news.progress;
  if (news.committed != kNoEpoch) {
    times_->Record(Phase::kCommit, now_ns - (wired_ns_ != 0 ? wired_ns_ : ship_ns_));
    primary_.OnAck(primary_.session(), primary_.link(), news.committed, now_ns);
    progress = true;
  }
  // The section written by the backup's heartbeat thread; any change is a sign of life.
  const std::span<const std::byte> beat =
      shipper_->memory().peer_block.bytes.subspan(kBackupHeartbeatOffset, kHeartbeatBytes);
  if (!std::equal(beat.begin(), beat.end(), last_beat_.begin())) {
    Heartbeat heartbeat;
    if (DecodeHeartbeat(HeartbeatSender::kBackup, beat, &heartbeat).ok() &&
        heartbeat.session == primary_.session()) {
      std::copy(beat.begin(), beat.end(), last_beat_.begin());
      primary_.OnPeerSign(now_ns);
    }
  }
  if (news.failed) {
    last_error_ = absl::UnavailableError(
        absl::StrCat("link ", primary_.link(),
                     " to the backup has failed: ", LinkFailureText(shipper_->failure())));
    primary_.OnLinkDown(primary_.link(), now_ns);
    progress = true;
  }
  return progress;
}

// Looks at what nobody announces: guests that end by themselves, a buffer that is tampered with.
void PrimaryDriver::CheckLife(int64_t now_ns) {
  next_life_ns_ = now_ns + options_.life_check_ns;
  for (uint32_t i = 0; i < guests_.size(); ++i) {
    if (guests_[i].domain->End() != DomainEnd::kNone) primary_.OnGuestEnded(i, now_ns);
  }
  const absl::Status health = output_.Health();
  if (!health.ok()) {
    last_error_ = health;
    primary_.OnOutputBroken(now_ns);
  }
  CheckMemory();
  CheckDevices(now_ns);
}

// While it is protected, what can not be captured has led to `solo` before this.
void PrimaryDriver::CheckMemory() {
  const Primary::Role role = primary_.role();
  if (role != Primary::Role::kUnprotected && role != Primary::Role::kSyncing) return;
  if (primary_.phase() != Primary::Phase::kRunning) return;
  for (Domain* domain : domains_) outdated_.Update(domain->CheckMemory());
}

// A guest that is not protected yet goes to an engine that describes it anew.
void PrimaryDriver::CheckDevices(int64_t now_ns) {
  devices_ = absl::OkStatus();
  for (Domain* domain : domains_) devices_.Update(domain->CheckDevices());
  if (devices_.ok()) return;
  const Primary::Role role = primary_.role();
  if (role != Primary::Role::kUnprotected && role != Primary::Role::kSyncing) {
    last_error_ = devices_;
    primary_.OnDevicesChanged(now_ns);
  } else if (primary_.phase() == Primary::Phase::kRunning) {
    outdated_.Update(devices_);
  }
}

bool PrimaryDriver::MarkApplies() const {
  const bool role =
      primary_.role() == Primary::Role::kArming || primary_.role() == Primary::Role::kProtected;
  return role && builder_ != nullptr && primary_.phase() == Primary::Phase::kRunning;
}

// The dirty set grows while the guests run; at the mark the epoch is closed early, so that it fits
// the journal and the pause stays bounded.
void PrimaryDriver::CheckMark(int64_t now_ns) {
  mark_interval_ns_ = options_.mark_check_ns;
  next_mark_ns_ = now_ns + mark_interval_ns_;
  if (!MarkApplies()) return;
  const uint64_t mark = DirtyMark();
  const absl::StatusOr<uint64_t> dirty = CountDirty(mark);
  if (!dirty.ok()) return;  // The next checkpoint meets it again and acts on it.
  if (*dirty >= mark) return primary_.OnDirtyMark(now_ns);
  // Far from the mark there is time: whoever fills all of staging before the next look would fill
  // what is behind the mark within `mark_check_ns` as well, or writes faster than any guest.
  const auto room = static_cast<int64_t>(mark - *dirty);
  const int64_t share_ns = options_.mark_check_ns * room / static_cast<int64_t>(mark);
  const int64_t far_ns = options_.mark_check_ns + std::max(share_ns, room * kNsPerDirtyPage);
  mark_interval_ns_ = std::min(far_ns, kMarkCheckMaxNs);
  next_mark_ns_ = now_ns + mark_interval_ns_;
}

uint64_t PrimaryDriver::DirtyMark() const {
  if (options_.dirty_mark_pages != 0) return options_.dirty_mark_pages;
  return uint64_t{builder_->max_slots()} * builder_->slot_bytes() / kPageBytes / 2;
}

// What the next epoch would carry. The logs are only looked at: after each that is cleared the
// guests fault again on all that they write.
absl::StatusOr<uint64_t> PrimaryDriver::CountDirty(uint64_t mark) {
  uint64_t logged = 0;
  for (Domain* domain : domains_) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t pages, domain->CountDirty());
    logged += pages;
  }
  const uint64_t pending = sets_->CountPending();
  if (pending == 0 || pending + logged < mark) return pending + logged;
  // Pages of a failed epoch, or of a log that was cleared since the last one, count twice if they
  // were dirtied again; only a fetch tells which.
  HAVEN_RETURN_IF_ERROR(FetchAndClear().status);
  return sets_->CountPending();
}

void PrimaryDriver::SendBeat(int64_t now_ns) {
  next_beat_ns_ = now_ns + options_.beat_ns;
  if (primary_.session() == kNoSession || shipper_ == nullptr) return;
  connector_.Send(HeartbeatMessage{primary_.session(), HeartbeatSender::kPrimary,
                                   static_cast<uint32_t>(PrimaryWireState(primary_, now_ns)),
                                   ++beat_counter_});
}

// Everything is sent again; whoever took the log away should be known.
void PrimaryDriver::NoteLostLog(const FetchResult& fetched) {
  if (!fetched.lost_log) return;
  last_error_ = fetched.lost_cause;
  observer_.OnReport("a dirty log was lost: all of that guest is sent again");
}

}  // namespace haven
