// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_process.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

namespace {

std::vector<GuestPorts> Ports(SimGroup& group) {
  std::vector<GuestPorts> ports;
  for (const auto& guest : group.guests()) ports.push_back({guest.get(), guest.get()});
  return ports;
}

// Messages of one channel stay in order.
int64_t InOrder(int64_t* last_ns, SimNetwork& network) {
  *last_ns = std::max(*last_ns + 1, network.scheduler().now_ns() + network.DelayNs());
  return *last_ns;
}

}  // namespace

void SimLoop::Wake() {
  const int64_t when_ns = scheduler_.now_ns() + 1 * kNsPerUs;
  if (scheduled_ns_ <= when_ns) return;
  scheduled_ns_ = when_ns;
  scheduler_.At(when_ns, [this, when_ns, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && scheduled_ns_ == when_ns) Run();
  });
}

void SimLoop::Run() {
  scheduled_ns_ = kNever;
  const std::weak_ptr<bool> alive = alive_;
  poll_();
  if (alive.expired()) return;
  const int64_t next_ns = next_wake_();
  if (next_ns == kNever) return;
  const int64_t when_ns = std::max(clock_.ToSimNs(next_ns), scheduler_.now_ns() + 1 * kNsPerUs);
  if (scheduled_ns_ <= when_ns) return;
  scheduled_ns_ = when_ns;
  scheduler_.At(when_ns, [this, when_ns, alive] {
    if (!alive.expired() && scheduled_ns_ == when_ns) Run();
  });
}

SimEngine::SimEngine(const SimShared& shared, int host, SimGroup& group, const SimClock& clock,
                     SimDial dial, std::function<void()> ended)
    : shared_(shared),
      host_(host),
      dial_(std::move(dial)),
      ended_(std::move(ended)),
      fabric_(shared.memory),
      arbiter_(shared.arbiter, shared.network, host,
               [this](const RegisterAnswer& answer) {
                 driver_->OnArbiterAnswer(answer);
                 loop_.Wake();
               }),
      loop_(
          shared.network.scheduler(), clock,
          [this] {
            driver_->Poll();
            const Primary& primary = driver_->primary();
            if (primary.link_state() == Primary::LinkState::kUp &&
                primary.epoch_in_flight() != kNoEpoch) {
              shared_.guests.checks.OnEpoch(primary.session(), primary.link(),
                                            primary.epoch_in_flight());
            }
            if (driver_->primary().end() == PrimaryEnd::kNotYet || reported_end_) return;
            reported_end_ = true;
            ended_();
          },
          [this] { return driver_->NextWakeNs(); }) {
  PrimaryDriverOptions options;
  options.protocol = shared.config.primary;
  options.protocol.owner = group.owner();
  options.protocol.domains = shared.config.guests;
  driver_ = std::make_unique<PrimaryDriver>(options, Ports(group), group.output(), *this, arbiter_,
                                            shared_.ids, pool_, clock, *this);
}

SimEngine::~SimEngine() = default;

void SimEngine::Start(const Register* current) {
  driver_->Start(current == nullptr ? std::nullopt : std::optional<Register>(*current));
  loop_.Wake();
}

void SimEngine::OnReport(const char* cause) {
  if (cause == nullptr || driver_ == nullptr) return;
  const Primary& primary = driver_->primary();
  shared_.trace(absl::StrCat("host ", host_, " engine: ", cause, " [role ",
                             static_cast<int>(primary.role()), " phase ",
                             static_cast<int>(primary.phase()), " link ", primary.link(), " acked ",
                             primary.acked_epoch(), "]"));
}

void SimEngine::Push(ConnectorEvent event) {
  events_.push_back(std::move(event));
  loop_.Wake();
}

std::optional<ConnectorEvent> SimEngine::Next() {
  if (events_.empty()) return std::nullopt;
  ConnectorEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void SimEngine::OpenSession(SessionId session, const ReplicaBase& base) {
  session_ = session;
  const uint64_t attempt = ++attempt_;
  SimNetwork& network = shared_.network;
  Hello hello;
  hello.session = session;
  hello.base_session = base.session;
  hello.base_epoch = base.epoch;
  network.scheduler().After(network.DelayNs(), [weak = weak_from_this(), hello, attempt] {
    const std::shared_ptr<SimEngine> engine = weak.lock();
    if (engine == nullptr) return;
    SimNetwork& net = engine->shared_.network;
    const int other = 1 - engine->host_;
    if (!net.Up(engine->host_, other) || !net.Up(other, engine->host_)) return;
    const std::shared_ptr<SimSession> session_process = engine->dial_();
    if (session_process == nullptr) {
      return engine->TakeRefusal(attempt, absl::UnavailableError("simulated: nobody listens"));
    }
    engine->peer_ = session_process;
    session_process->TakeHello(hello, weak, attempt);
  });
}

void SimEngine::TakeRefusal(uint64_t attempt, const absl::Status& cause) {
  if (attempt == attempt_) Push(SessionFailed{session_, cause});
}

void SimEngine::TakeWelcome(uint64_t attempt, const Welcome& welcome) {
  if (attempt != attempt_) return;
  const SessionMemory old = std::exchange(memory_, SessionMemory{});
  memory_.session = welcome.session;
  memory_.geometry = welcome.geometry;
  const std::shared_ptr<SimSession> peer = peer_.lock();
  if (peer == nullptr) return;
  const ReplicaParts& parts = peer->driver().parts();
  HAVEN_CHECK(absl::SimpleAtoi(parts.session_address, &memory_.journal.key));
  memory_.journal.bytes = parts.journal.bytes.size();
  const uint64_t staging = uint64_t{shared_.config.staging_slots} * welcome.geometry.slot_bytes;
  memory_.staging = *fabric_.Register(staging, RegionAccess::kLocal);
  memory_.scratch = *fabric_.Register(4096, RegionAccess::kLocal);
  const LocalRegion old_block = old.peer_block;
  memory_.peer_block = HAVEN_MUTANT(kBelieveOldAck) && !old_block.bytes.empty()
                           ? old_block
                           : *fabric_.Register(kPeerBlockBytes, RegionAccess::kRemoteWrite);
  memory_.max_write_bytes = fabric_.max_write_bytes();
  memory_.domain_count = static_cast<uint16_t>(shared_.config.guests);
  Push(SessionOpened{memory_, welcome.base_accepted});
}

void SimEngine::OpenLink(LinkNumber number) {
  const uint64_t attempt = ++attempt_;
  SimNetwork& network = shared_.network;
  auto link =
      std::make_shared<SimLink>(network, shared_.memory, fabric_, host_, [weak = weak_from_this()] {
        if (auto engine = weak.lock()) engine->loop_.Wake();
      });
  network.scheduler().After(network.DelayNs(), [weak = weak_from_this(), number, attempt, link] {
    const std::shared_ptr<SimEngine> engine = weak.lock();
    if (engine == nullptr || attempt != engine->attempt_) return;
    SimNetwork& net = engine->shared_.network;
    const int other = 1 - engine->host_;
    const std::shared_ptr<SimSession> peer = engine->peer_.lock();
    if (peer == nullptr && net.Up(engine->host_, other) && net.Up(other, engine->host_)) {
      // The host answers, the process is gone.
      return engine->Push(MessageArrived{
          Drop{engine->session_, DropReason::kReplica, "simulated: no such session here"}});
    }
    if (peer == nullptr || !net.Up(engine->host_, other)) {
      return net.scheduler().After(50 * kNsPerMs, [weak, number, attempt] {
        const std::shared_ptr<SimEngine> late = weak.lock();
        if (late == nullptr || attempt != late->attempt_) return;
        late->Push(LinkFailed{number, absl::DeadlineExceededError("simulated: no route")});
      });
    }
    peer->TakeLinkRequest(engine->session_, number, weak, attempt, link);
  });
}

void SimEngine::TakeOffer(uint64_t attempt, const LinkOffer& offer, std::shared_ptr<SimLink> data) {
  if (attempt != attempt_) return;
  link_ = std::move(data);
  Push(LinkOpened{offer.link, link_.get(), nullptr, offer.committed_epoch, offer.next_position,
                  offer.ring_tail});
}

void SimEngine::CloseLink() {
  ++attempt_;
  std::erase_if(events_, [](const ConnectorEvent& event) {
    return std::holds_alternative<LinkOpened>(event) || std::holds_alternative<LinkFailed>(event);
  });
  if (link_ == nullptr) return;
  link_->Destroy();
  link_.reset();
}

void SimEngine::DropSession() {
  CloseLink();
  events_.clear();
  peer_.reset();
}

void SimEngine::Send(const ControlMessage& message) {
  const std::shared_ptr<SimSession> peer = peer_.lock();
  const int other = 1 - host_;
  if (peer == nullptr || !shared_.network.Up(host_, other)) return;
  shared_.network.scheduler().At(InOrder(&last_send_ns_, shared_.network),
                                 [weak = std::weak_ptr<SimSession>(peer), message,
                                  &network = shared_.network, from = host_, other] {
                                   const std::shared_ptr<SimSession> session = weak.lock();
                                   if (session != nullptr && network.Up(from, other))
                                     session->TakeMessage(message);
                                 });
}

void SimEngine::TakeMessage(const ControlMessage& message) { Push(MessageArrived{message}); }

SimSession::SimSession(const SimShared& shared, int host, std::string owner, const SimClock& clock,
                       std::function<void()> ended)
    : shared_(shared),
      host_(host),
      owner_(std::move(owner)),
      ended_(std::move(ended)),
      fabric_(shared.memory),
      arbiter_(shared.arbiter, shared.network, host,
               [this](const RegisterAnswer& answer) {
                 driver_->OnArbiterAnswer(answer);
                 loop_.Wake();
               }),
      loop_(
          shared.network.scheduler(), clock,
          [this] {
            if (!started_) return;
            driver_->Poll();
            if (driver_->backup().end() == BackupEnd::kNotYet || reported_end_) return;
            reported_end_ = true;
            ended_();
          },
          [this] { return started_ ? driver_->NextWakeNs() : kNever; }) {
  ReplicaParts parts;
  parts.group = "g";
  parts.node_id = "n";
  parts.geometry = shared.config.geometry;
  parts.journal = *fabric_.Register(parts.geometry.total_bytes(), RegionAccess::kRemoteWrite);
  parts.scratch = *fabric_.Register(4096, RegionAccess::kLocal);
  parts.session_address = std::to_string(fabric_.Export(parts.journal)->key);
  for (uint32_t i = 0; i < shared.config.guests; ++i) {
    replicas_.push_back(std::make_unique<SimReplica>(shared.guests));
    parts.replicas.push_back(replicas_.back().get());
    parts.max_state_bytes.push_back(kSimStateBytes);
  }
  BackupDriverOptions options;
  options.protocol = shared.config.backup;
  options.protocol.owner = owner_;
  options.apply_threads = 0;
  options.apply_delay_ns = shared.config.apply_delay_ns;
  // The variants without these guards show what the others are for.
  options.recheck_crc = !HAVEN_MUTANT(kApplyBeforeVerify) && !HAVEN_MUTANT(kReuseBeforeApply);
  absl::StatusOr<std::unique_ptr<BackupDriver>> driver =
      BackupDriver::Create(options, std::move(parts), *this, arbiter_, shared_.ids, clock, *this);
  HAVEN_CHECK_OK(driver);
  driver_ = *std::move(driver);
}

SimSession::~SimSession() = default;

void SimSession::OnReport(const char* cause) {
  if (cause == nullptr || driver_ == nullptr) return;
  const Backup& backup = driver_->backup();
  shared_.trace(absl::StrCat("host ", host_, " session: ", cause, " [",
                             Backup::StateName(backup.state()), " link ", backup.link(),
                             " committed ", backup.committed(), "]"));
}

void SimSession::Push(PrimaryEvent event) {
  events_.push_back(std::move(event));
  loop_.Wake();
}

std::optional<PrimaryEvent> SimSession::Next() {
  if (events_.empty()) return std::nullopt;
  PrimaryEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void SimSession::TakeHello(const Hello& hello, std::weak_ptr<SimEngine> engine, uint64_t attempt) {
  engine_ = std::move(engine);
  hello_attempt_ = attempt;
  if (!std::exchange(started_, true)) {
    driver_->Start(hello);
    return loop_.Wake();
  }
  Push(HelloArrived{hello});
}

void SimSession::TakeLinkRequest(SessionId session, LinkNumber link,
                                 std::weak_ptr<SimEngine> engine, uint64_t attempt,
                                 std::shared_ptr<SimLink> remote) {
  engine_ = std::move(engine);
  link_attempt_ = attempt;
  remote_link_ = std::move(remote);
  if (const std::shared_ptr<SimEngine> asker = engine_.lock()) {
    peer_block_ = *asker->fabric().Export(asker->peer_block());
  }
  Push(LinkAsked{session, link});
}

void SimSession::TakeMessage(const ControlMessage& message) { Push(PrimarySaid{message}); }

void SimSession::ToEngine(std::function<void(SimEngine&)> run) {
  if (!shared_.network.Up(host_, 1 - host_)) return;
  shared_.network.scheduler().At(
      InOrder(&last_send_ns_, shared_.network),
      [weak = engine_, run = std::move(run), &network = shared_.network, host = host_] {
        const std::shared_ptr<SimEngine> engine = weak.lock();
        if (engine != nullptr && network.Up(host, 1 - host)) run(*engine);
      });
}

void SimSession::Accept(const Welcome& welcome) {
  ToEngine([welcome, attempt = hello_attempt_](SimEngine& engine) {
    engine.TakeWelcome(attempt, welcome);
  });
}

void SimSession::Refuse(const ::haven::Refuse& refuse) {
  ToEngine([refuse, attempt = hello_attempt_](SimEngine& engine) {
    engine.TakeRefusal(attempt, absl::UnavailableError(refuse.message));
  });
}

void SimSession::OfferLink(LinkOffer offer) {
  if (remote_link_ == nullptr) return;
  link_ = std::make_shared<SimLink>(shared_.network, shared_.memory, fabric_, host_,
                                    [weak = weak_from_this()] {
                                      if (auto session = weak.lock()) session->loop_.Wake();
                                    });
  SimLink::Join(remote_link_, link_);
  Push(LinkMade{offer.link, link_.get(), nullptr, peer_block_});
  ToEngine([offer, attempt = link_attempt_, data = std::exchange(remote_link_, nullptr)](
               SimEngine& engine) { engine.TakeOffer(attempt, offer, data); });
}

void SimSession::CloseLinks() {
  std::erase_if(events_, [](const PrimaryEvent& event) {
    return std::holds_alternative<LinkMade>(event) || std::holds_alternative<LinkUnmade>(event);
  });
  if (link_ == nullptr) return;
  link_->Destroy();
  link_.reset();
}

absl::Status SimSession::Revoke() { return link_ == nullptr ? absl::OkStatus() : link_->Revoke(); }

void SimSession::Send(const ControlMessage& message) {
  ToEngine([message](SimEngine& engine) { engine.TakeMessage(message); });
}

std::optional<uint64_t> SimSession::CommittedStep(SessionId session, uint32_t guest) const {
  if (!started_ || driver_->backup().session() != session) return std::nullopt;
  const StateStore* states = driver_->states();
  if (states == nullptr || states->epoch() == kNoEpoch) return std::nullopt;
  return DecodeSimState(states->state(static_cast<uint16_t>(guest))).step;
}

}  // namespace haven
