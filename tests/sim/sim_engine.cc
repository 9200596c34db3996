// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/control/status_words.h"
#include "engine/replica/features.h"
#include "tests/sim/sim_coverage.h"
#include "tests/sim/sim_session.h"

namespace haven {

SimEngine::SimEngine(const SimShared& shared, int host, SimGroup& group, const SimClock& clock,
                     std::function<void(SimCall)> dial, SimEngineGuest::Protecting protecting,
                     std::function<void()> ended)
    : shared_(shared),
      host_(host),
      group_(group),
      clock_(clock),
      dial_(std::move(dial)),
      ended_(std::move(ended)),
      life_(SimProcess::kEngine, host, shared.event),
      fabric_(shared.memory, [this] { return life_.Acts(); }),
      output_(group.output(), life_),
      pump_(shared.network.scheduler(), clock, shared.config.primary.detect_ns / 10),
      arbiter_(shared.arbiter, shared.network, life_, host,
               [this](const RegisterAnswer& answer) {
                 answers_.push_back(answer);
                 loop_.Wake();
               }),
      loop_(
          shared.network.scheduler(), clock, [this] { Turn(); },
          [this] { return driver_->NextWakeNs(); }) {
  PrimaryDriverOptions options;
  options.protocol = shared.config.primary;
  options.protocol.owner = group.owner();
  options.protocol.domains = shared.config.guests;
  options.stuck_ns = shared.config.stuck_ns;
  options.codec = shared.config.codec;
  std::vector<GuestPorts> ports;
  for (const auto& guest : group.guests()) {
    guests_.push_back(std::make_unique<SimEngineGuest>(*guest, life_, protecting));
    ports.push_back({guests_.back().get(), guests_.back().get()});
  }
  driver_ = std::make_unique<PrimaryDriver>(options, std::move(ports), output_, *this, arbiter_,
                                            shared_.ids, pool_, clock, *this);
}

SimEngine::~SimEngine() {
  life_.Kill();
  if (channel_ != nullptr) channel_->Close();
  pump_.ClearLane();
}

void SimEngine::Start(const Register* current) {
  driver_->Start(current == nullptr ? std::nullopt : std::optional<Register>(*current));
  loop_.Wake();
}

// EngineLoop::Turn.
void SimEngine::Turn() {
  if (!life_.Acts()) return;
  while (!answers_.empty()) {
    const RegisterAnswer answer = std::move(answers_.front());
    answers_.pop_front();
    driver_->OnArbiterAnswer(answer);
  }
  driver_->Poll();
  if (life_.dead()) return;
  Vouch();
  FollowLink();
  NoteEpoch();
  NoteRoom();
  if (driver_->primary().end() == PrimaryEnd::kNotYet || std::exchange(reported_end_, true)) return;
  ended_();
}

void SimEngine::NoteEpoch() {
  const Primary& primary = driver_->primary();
  const uint64_t sent_bytes = driver_->counters().total_wire_bytes;
  if (std::exchange(sent_bytes_, sent_bytes) == sent_bytes) return;
  if (primary.epoch_in_flight() == kNoEpoch) return;
  shared_.guests.checks.OnEpoch(primary.session(), primary.link(), primary.epoch_in_flight());
  const uint64_t checkpoints = driver_->counters().epochs;
  if (std::exchange(checkpoints_, checkpoints) != checkpoints) NoteCheckpoint();
}

void SimEngine::NoteCheckpoint() {
  const Primary& primary = driver_->primary();
  const std::shared_ptr<SimSession> peer = peer_.lock();
  if (peer == nullptr || primary.role() != Primary::Role::kProtected) return;
  uint64_t written = 0;
  for (uint32_t i = 0; i < shared_.config.guests; ++i) {
    const std::optional<SimState> committed = peer->Committed(primary.session(), i);
    // A log that was lost since says that every page may be dirty.
    if (!committed.has_value() || committed->capture < group_.all_dirty_capture()) return;
    // A log that was kept has what was committed already.
    SimGuest& guest = *group_.guests()[i];
    written += guest.PagesSince(std::min(committed->step, guest.FetchedSince(committed->step)));
  }
  shared_.guests.checks.OnCheckpoint(driver_->counters().last_pages, written);
}

// Room comes with the next apply, or with the answer to a request for more.
void SimEngine::NoteRoom() {
  constexpr int64_t kAnswerNs = 5 * kNsPerMs;
  const int64_t now_ns = shared_.network.scheduler().now_ns();
  if (!driver_->waits_for_room()) {
    no_room_since_ns_ = kNever;
  } else if (no_room_since_ns_ == kNever) {
    no_room_since_ns_ = now_ns;
  } else if (now_ns >= no_room_since_ns_ + kAnswerNs) {
    no_room_since_ns_ = now_ns;
    shared_.strike(SimFault::kJournalFull, host_);
  }
}

void SimEngine::Vouch() {
  const int64_t now_ns = clock_.NowNs();
  if (!driver_->primary().healthy(now_ns)) return;
  pump_.Vouch(driver_->alive_until_ns(),
              static_cast<uint32_t>(PrimaryWireState(driver_->primary(), now_ns)));
}

void SimEngine::FollowLink() {
  const bool up = lanes_.data != nullptr && driver_->beat_link() != nullptr;
  const SessionId session = up ? driver_->primary().session() : kNoSession;
  const LinkNumber number = up ? driver_->primary().link() : kNoLink;
  if (session == followed_session_ && number == followed_link_) return;
  followed_session_ = session;
  followed_link_ = number;
  if (!up) return;
  pump_.SetLane(std::make_unique<PrimaryBeatLane>(
      *driver_->session_memory(), number, pump_.last_counter(session), *driver_->beat_link()));
}

void SimEngine::OnReport(const char* cause) {
  if (cause == nullptr || driver_ == nullptr || !life_.Acts()) return;
  const Primary& primary = driver_->primary();
  shared_.tell("primary", ProtocolStateName(StateOf(primary.role())), cause);
  shared_.trace(absl::StrCat("host ", host_, " engine: ", cause, " [role ",
                             static_cast<int>(primary.role()), " phase ",
                             static_cast<int>(primary.phase()), " link ", primary.link(), " acked ",
                             primary.acked_epoch(), "]"));
}

bool SimEngine::LoseChannel() {
  if (channel_ == nullptr) return false;
  channel_->Lose();
  channel_.reset();
  Push(ChannelLost{absl::UnavailableError("simulated: the channel was lost")});
  return true;
}

void SimEngine::Push(ConnectorEvent event) {
  events_.push_back(std::move(event));
  loop_.Wake();
}

std::optional<ConnectorEvent> SimEngine::Next() {
  if (life_.dead() || events_.empty()) return std::nullopt;
  ConnectorEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool SimEngine::Reachable() const {
  return shared_.network.Up(host_, 1 - host_, SimPath::kChannel) &&
         shared_.network.Up(1 - host_, host_, SimPath::kChannel);
}

// The process of the last session is asked first; the listener if that is gone, refuses for good or
// does not answer in half of the time.
void SimEngine::OpenSession(SessionId session, const ReplicaBase& base) {
  if (!life_.Acts()) return;
  DropSession();
  hello_ = Hello{};
  hello_.session = session;
  hello_.base_session = base.epoch == kNoEpoch ? kNoSession : base.session;
  hello_.base_epoch = base.epoch;
  asking_parked_ = !parked_.expired();
  Call(attempt_, asking_parked_);
  if (!asking_parked_) return;
  shared_.network.scheduler().After(
      shared_.config.primary.open_deadline_ns * 4 / 5,
      [weak = weak_from_this(), attempt = attempt_] {
        const std::shared_ptr<SimEngine> engine = weak.lock();
        if (engine == nullptr || attempt != engine->attempt_ || !engine->asking_parked_) return;
        engine->asking_parked_ = false;
        engine->parked_.reset();
        engine->calling_->Close();
        engine->Call(attempt, false);
      });
}

void SimEngine::Call(uint64_t attempt, bool parked) {
  SimNetwork& network = shared_.network;
  calling_ = std::make_shared<SimChannel>(network);
  const SimCall call{hello_, weak_from_this(), attempt, calling_, parked};
  network.scheduler().After(network.DelayNs(), [call] {
    const std::shared_ptr<SimEngine> engine = call.engine.lock();
    if (engine == nullptr || call.attempt != engine->attempt_ || !engine->Reachable()) return;
    if (!call.parked) return engine->dial_(call);
    if (const std::shared_ptr<SimSession> session = engine->parked_.lock()) {
      return session->TakeHello(call);
    }
    engine->asking_parked_ = false;
    engine->Call(call.attempt, false);
  });
}

void SimEngine::TakeRefusal(const SimCall& call, const ::haven::Refuse& refuse) {
  if (call.attempt != attempt_ || call.channel != calling_) return;
  asking_parked_ = false;
  if (call.parked && refuse.code != RefuseCode::kNotReady) return Call(attempt_, false);
  Push(SessionFailed{hello_.session, absl::UnavailableError(refuse.message)});
}

void SimEngine::TakeWelcome(uint64_t attempt, const Welcome& welcome,
                            std::weak_ptr<SimSession> peer, std::shared_ptr<SimChannel> channel) {
  const std::shared_ptr<SimSession> session = peer.lock();
  if (session == nullptr) return;
  if (attempt != attempt_ || channel != calling_) {
    const Drop drop{welcome.session, DropReason::kTimeout, "simulated: a moment too late"};
    SimChannel::Send(channel, host_, [peer, channel, drop] {
      if (const auto late = peer.lock()) late->TakeMessage(channel, drop);
    });
    parked_ = peer;
    return;
  }
  asking_parked_ = false;
  memory_ = SessionMemory{};
  memory_.session = welcome.session;
  memory_.geometry = welcome.geometry;
  const ReplicaParts& parts = session->driver().parts();
  HAVEN_CHECK(absl::SimpleAtoi(parts.session_address, &memory_.journal.key));
  memory_.journal.bytes = parts.journal.bytes.size();
  const uint64_t staging = uint64_t{shared_.config.staging_slots} * welcome.geometry.slot_bytes;
  memory_.features = welcome.agreement.features;
  if (IsSealed(memory_.features)) memory_.seal_key = SimSealKey(welcome.session);
  memory_.staging = *fabric_.Register(staging, RegionAccess::kLocal);
  if (shared_.config.codec.enabled) {
    memory_.image = *fabric_.Register(staging, RegionAccess::kLocal);
  }
  memory_.scratch = *fabric_.Register(PrimaryBeatLane::kScratchBytes, RegionAccess::kLocal);
  memory_.peer_block = *fabric_.Register(kPeerBlockBytes, RegionAccess::kRemoteWrite);
  memory_.max_write_bytes = fabric_.max_write_bytes();
  memory_.domain_count = static_cast<uint16_t>(shared_.config.guests);
  channel_ = std::move(channel);
  peer_ = std::move(peer);
  lanes_left_over_ = false;
  Push(SessionOpened{memory_, welcome.base_accepted});
}

void SimEngine::DropSession() {
  if (!life_.Acts()) return;
  CloseLink();
  if (channel_ != nullptr) channel_->Close();
  channel_.reset();
  events_.clear();
  if (!peer_.expired()) parked_ = peer_;
  peer_.reset();
}

void SimEngine::Send(const ControlMessage& message) {
  if (!life_.Acts()) return;
  if (channel_ == nullptr) return OpenChannel();
  SimChannel::Send(channel_, host_, [weak = peer_, channel = channel_, message] {
    if (const auto session = weak.lock()) session->TakeMessage(channel, message);
  });
}

void SimEngine::TakeMessage(const std::shared_ptr<SimChannel>& channel,
                            const ControlMessage& message) {
  if (channel == channel_) Push(MessageArrived{message});
}

}  // namespace haven
