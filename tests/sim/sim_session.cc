// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/replica/features.h"

namespace haven {

SimSession::SimSession(const SimShared& shared, int host, std::string owner, const SimClock& clock,
                       std::function<absl::Status()> announce, std::function<void()> ended,
                       std::function<void(const SimEngine*)> kill)
    : shared_(shared),
      host_(host),
      owner_(std::move(owner)),
      clock_(clock),
      announce_(std::move(announce)),
      ended_(std::move(ended)),
      kill_(std::move(kill)),
      life_(SimProcess::kSession, host, shared.event),
      fabric_(shared.memory, [this] { return life_.Acts(); }),
      scratch_(*fabric_.Register(BackupBeatLane::kScratchBytes, RegionAccess::kLocal)),
      pump_(shared.network.scheduler(), clock, shared.config.primary.detect_ns / 10),
      arbiter_(shared.arbiter, shared.network, life_, host,
               [this](const RegisterAnswer& answer) {
                 answers_.push_back(answer);
                 loop_.Wake();
               }),
      loop_(
          shared.network.scheduler(), clock, [this] { Turn(); },
          [this] { return driver_->NextWakeNs(); }) {
  ReplicaParts parts;
  parts.group = std::string("g");
  parts.node_id = std::string("n");
  parts.geometry = shared.config.geometry;
  if (shared.config.codec.enabled) parts.agreement.features = kCodecFeatures;
  if (shared.config.sealed) parts.agreement.features |= static_cast<uint64_t>(Feature::kSeal);
  parts.journal = *fabric_.Register(parts.geometry.total_bytes(), RegionAccess::kRemoteWrite);
  parts.scratch = scratch_;
  parts.session_address = std::to_string(fabric_.Export(parts.journal)->key);
  for (uint32_t i = 0; i < shared.config.guests; ++i) {
    replicas_.push_back(std::make_unique<SimReplica>(shared.guests, life_, [this] {
      const absl::Status status = announced_ ? absl::OkStatus() : announce_();
      if (status.ok()) announced_ = true;
      return status;
    }));
    parts.replicas.push_back(replicas_.back().get());
    parts.max_state_bytes.push_back(kSimStateBytes);
  }
  BackupDriverOptions options;
  options.protocol = shared.config.backup;
  options.protocol.owner = owner_;
  options.apply_threads = 0;
  options.stuck_ns = shared.config.stuck_ns;
  // The variants without these guards show what the others are for.
  options.recheck_crc = !HAVEN_MUTANT(kApplyBeforeVerify) && !HAVEN_MUTANT(kReuseBeforeApply);
  absl::StatusOr<std::unique_ptr<BackupDriver>> driver =
      BackupDriver::Create(options, std::move(parts), *this, arbiter_, shared_.ids, clock, *this);
  HAVEN_CHECK_OK(driver);
  driver_ = *std::move(driver);
  driver_->SetApplyDelay(shared.config.apply_delay_ns);
}

void SimSession::SetDelays(int64_t turn_ns, int64_t apply_ns) {
  loop_.SetDelay(turn_ns);
  driver_->SetApplyDelay(apply_ns);
  loop_.Wake();
}

SimSession::~SimSession() {
  life_.Kill();
  if (channel_ != nullptr) channel_->Close();
  pump_.ClearLane();
}

void SimSession::Start(const SimCall& call) {
  caller_ = call;
  if (!life_.Acts()) return;
  driver_->Start(call.hello);
  if (!life_.dead()) loop_.Wake();
}

// SessionLoop::Turn.
void SimSession::Turn() {
  if (!life_.Acts()) return;
  while (!answers_.empty()) {
    const RegisterAnswer answer = std::move(answers_.front());
    answers_.pop_front();
    driver_->OnArbiterAnswer(answer);
  }
  driver_->Poll();
  if (life_.dead()) return;
  if (driver_->backup().healthy(clock_.NowNs())) {
    pump_.Vouch(driver_->alive_until_ns(), static_cast<uint32_t>(driver_->WireState()));
  }
  FollowLink();
  if (driver_->backup().end() == BackupEnd::kNotYet || std::exchange(reported_end_, true)) return;
  ended_();
}

void SimSession::FollowLink() {
  const bool up = lanes_.data != nullptr && driver_->beat_link() != nullptr;
  const SessionId session = up ? driver_->backup().session() : kNoSession;
  const LinkNumber number = up ? driver_->backup().link() : kNoLink;
  if (session == followed_session_ && number == followed_link_) return;
  followed_session_ = session;
  followed_link_ = number;
  if (!up) return;
  pump_.SetLane(std::make_unique<BackupBeatLane>(session, number, pump_.last_counter(session),
                                                 scratch_, driver_->peer_block(),
                                                 *driver_->beat_link()));
}

bool SimSession::promotion_failed() const {
  return revoke_failed_ || std::any_of(replicas_.begin(), replicas_.end(), [](const auto& replica) {
           return replica->prepare_failed();
         });
}

bool SimSession::LoseCopy(uint64_t which, bool destroyed) {
  if (copy_lost() || !life_.Acts()) return false;
  if (!driver_->backup().receiving()) return false;
  replicas_[which % replicas_.size()]->Lose(destroyed);
  return true;
}

bool SimSession::copy_lost() const {
  return std::any_of(replicas_.begin(), replicas_.end(),
                     [](const auto& replica) { return replica->lost(); });
}

bool SimSession::MayStop() const {
  const Backup::State state = driver_->backup().state();
  return state == Backup::State::kSyncing || state == Backup::State::kStale ||
         state == Backup::State::kWaiting;
}

// A process may die, or something may befall it, in each of its states, however short.
void SimSession::OnReport(const char* cause) {
  if (cause == nullptr || driver_ == nullptr || !life_.Acts()) return;
  const Backup& backup = driver_->backup();
  shared_.tell("backup", Backup::StateName(backup.state()), cause);
  shared_.trace(absl::StrCat("host ", host_, " session: ", cause, " [",
                             Backup::StateName(backup.state()), " link ", backup.link(),
                             " committed ", backup.committed(), "]"));
}

void SimSession::Push(PrimaryEvent event) {
  events_.push_back(std::move(event));
  loop_.Wake();
}

std::optional<PrimaryEvent> SimSession::Next() {
  if (life_.dead() || events_.empty()) return std::nullopt;
  PrimaryEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::optional<SealKey> SimSession::SealKeyOf(SessionId session) const {
  return shared_.config.sealed ? std::optional(SimSealKey(session)) : std::nullopt;
}

std::shared_ptr<SimLink> SimSession::MakeLink(SimPath path, std::function<void()> wake) {
  return std::make_shared<SimLink>(shared_.network, shared_.memory, fabric_, host_, path,
                                   std::move(wake));
}

void SimSession::TakeHello(const SimCall& call) {
  caller_ = call;
  Push(HelloArrived{call.hello});
}

void SimSession::TakeLinkRequest(SessionId session, LinkNumber link,
                                 std::shared_ptr<SimEngine> engine, uint64_t attempt,
                                 std::shared_ptr<SimChannel> channel, SimLanes remote) {
  if (session != driver_->backup().session()) return;
  if (channel_ != nullptr && channel_ != channel) channel_->Close();
  channel_ = std::move(channel);
  engine_ = engine;
  link_attempt_ = attempt;
  newest_link_ = link;
  remote_ = std::move(remote);
  peer_block_ = *engine->fabric().Export(engine->peer_block());
  Push(LinkAsked{session, link});
}

void SimSession::TakeLinkReady(SessionId session, LinkNumber link, std::weak_ptr<SimEngine> engine,
                               std::shared_ptr<SimChannel> channel) {
  if (session != driver_->backup().session() || link != newest_link_) return channel->Close();
  if (channel_ != nullptr) channel_->Close();
  channel_ = std::move(channel);
  engine_ = std::move(engine);
}

void SimSession::TakeMessage(const std::shared_ptr<SimChannel>& channel,
                             const ControlMessage& message) {
  if (channel == channel_) Push(PrimarySaid{message});
}

void SimSession::Accept(const Welcome& welcome) {
  if (!life_.Acts()) return;
  if (channel_ != nullptr) channel_->Close();
  const SimCall call = std::exchange(caller_, SimCall{});
  newest_link_ = kNoLink;
  channel_ = call.channel;
  engine_ = call.engine;
  SimChannel::Send(channel_, host_, [welcome, call, weak = weak_from_this()] {
    if (const auto engine = call.engine.lock()) {
      engine->TakeWelcome(call.attempt, welcome, weak, call.channel);
    }
  });
}

void SimSession::Refuse(const ::haven::Refuse& refuse) {
  if (!life_.Acts()) return;
  const SimCall call = std::exchange(caller_, SimCall{});
  SimChannel::Send(call.channel, host_, [refuse, call] {
    if (const auto engine = call.engine.lock()) engine->TakeRefusal(call, refuse);
  });
}

void SimSession::OfferLink(LinkOffer offer) {
  if (!life_.Acts()) return;
  CloseLinks();
  if (remote_.data == nullptr) return;
  lanes_.data = MakeLink(SimPath::kData, [weak = weak_from_this()] {
    if (auto session = weak.lock()) session->loop_.Wake();
  });
  lanes_.beats = MakeLink(SimPath::kBeats, nullptr);
  SimLink::Join(remote_.data, lanes_.data);
  SimLink::Join(remote_.beats, lanes_.beats);
  writer_ = engine_;
  Push(LinkMade{offer.link, lanes_.data.get(), lanes_.beats.get(), peer_block_});
  if (shared_.guests.chances.Happens(SimGuestFault::kFalseProof)) {
    constexpr Epoch kNeverSent = 1'000'000;
    offer.committed_epoch += kNeverSent;
  }
  SimChannel::Send(channel_, host_,
                   [weak = engine_, attempt = link_attempt_, offer,
                    remote = std::exchange(remote_, SimLanes{})] {
                     if (const auto engine = weak.lock()) engine->TakeOffer(attempt, offer, remote);
                   });
}

void SimSession::CloseLinks() {
  if (!life_.Acts()) return;
  pump_.ClearLane();
  lanes_.Destroy();
  std::erase_if(events_, [](const PrimaryEvent& event) {
    return std::holds_alternative<LinkMade>(event) || std::holds_alternative<LinkUnmade>(event);
  });
}

// Over shared memory the proof is the death of the last one that had a link, closed or not.
absl::Status SimSession::Revoke() {
  if (!life_.Acts()) return SimDead();
  pump_.ClearLane();
  absl::Status status;
  if (lanes_.data != nullptr) status.Update(lanes_.data->Revoke());
  if (lanes_.beats != nullptr) status.Update(lanes_.beats->Revoke());
  if (!status.ok()) revoke_failed_ = true;
  if (!status.ok() || !shared_.config.revoke_kills) return status;
  if (const std::shared_ptr<SimEngine> writer = writer_.lock()) kill_(writer.get());
  return absl::OkStatus();
}

void SimSession::Send(const ControlMessage& message) {
  if (!life_.Acts()) return;
  SimChannel::Send(channel_, host_, [weak = engine_, channel = channel_, message] {
    if (const auto engine = weak.lock()) engine->TakeMessage(channel, message);
  });
}

std::optional<SimState> SimSession::Committed(SessionId session, uint32_t guest) const {
  if (driver_->backup().session() != session) return std::nullopt;
  const StateStore* states = driver_->states();
  if (states == nullptr || states->epoch() == kNoEpoch) return std::nullopt;
  return DecodeSimState(states->state(static_cast<uint16_t>(guest)));
}

}  // namespace haven
