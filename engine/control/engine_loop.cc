// SPDX-License-Identifier: Apache-2.0
#include "engine/control/engine_loop.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/control/codec_memory.h"
#include "engine/control/hello_builder.h"
#include "engine/control/scaled_deadlines.h"
#include "engine/control/status_words.h"
#include "engine/control/time_limit.h"

namespace haven {

namespace {

// Some of what an epoch waits for is announced by no descriptor: how often it is looked at, at
// first and, when it takes long, at last.
constexpr int64_t kBusyPollMinNs = 100 * kNsPerUs;
constexpr int64_t kBusyPollMaxNs = 5 * kNsPerMs;

// What nobody announces is looked at with every second heartbeat on the channel, and at least as
// often as this.
constexpr int64_t kLifeCheckMaxNs = 100 * kNsPerMs;

constexpr int64_t kIntervalMinNs = 1 * kNsPerMs;
constexpr int64_t kIntervalMaxNs = 3600 * kNsPerSecond;

bool DisksCovered(const std::vector<GuestPorts>& guests) {
  return std::all_of(guests.begin(), guests.end(),
                     [](const GuestPorts& guest) { return guest.domain->info().disk_covered; });
}

std::vector<std::string> GuestNames(const std::vector<GuestPorts>& guests) {
  std::vector<std::string> names;
  for (const GuestPorts& guest : guests) names.push_back(guest.domain->info().name);
  return names;
}

uint64_t PageCount(const std::vector<GuestPorts>& guests) {
  uint64_t pages = 0;
  for (const GuestPorts& guest : guests) pages += guest.domain->memory().page_count();
  return pages;
}

absl::Status CheckSeams(const EngineSeams& seams) {
  const bool whole = seams.output != nullptr && seams.transport != nullptr &&
                     seams.arbiter != nullptr && !seams.guests.empty();
  if (!whole)
    return absl::InvalidArgumentError("an engine needs guests, output, transport, arbiter");
  for (const GuestPorts& guest : seams.guests) {
    if (guest.domain == nullptr || guest.suspend == nullptr) {
      return absl::InvalidArgumentError("a guest needs a domain and a way to suspend it");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<EngineLoop>> EngineLoop::Create(EngineOptions options,
                                                               EngineSeams seams) {
  HAVEN_RETURN_IF_ERROR(CheckSeams(seams));
  PrimaryConfig& protocol = options.driver.protocol;
  protocol.domains = static_cast<uint32_t>(seams.guests.size());
  protocol = ScaleDeadlines(std::move(protocol), PageCount(seams.guests), options.staging_bytes);
  std::unique_ptr<EngineLoop> loop(new EngineLoop(std::move(options), std::move(seams)));
  HAVEN_RETURN_IF_ERROR(loop->Open());
  HAVEN_RETURN_IF_ERROR(loop->OpenDriver());
  return loop;
}

EngineLoop::EngineLoop(EngineOptions options, EngineSeams seams)
    : options_(std::move(options)), seams_(std::move(seams)), clock_(SystemClock::Get()) {}

EngineLoop::~EngineLoop() = default;

absl::Status EngineLoop::Open() {
  const PrimaryConfig& protocol = options_.driver.protocol;
  HAVEN_ASSIGN_OR_RETURN(mailbox_, (Mailbox<Command, Reply>::Create()));
  HAVEN_ASSIGN_OR_RETURN(publisher_, StatusPublisher::Start(options_.paths, [this] {
                           return seams_.transport->Warning();
                         }));
  status_ =
      std::make_unique<PrimaryStatus>(StatusIdentity{.role = "primary",
                                                     .node_id = options_.node_id,
                                                     .group = options_.group,
                                                     .guests = GuestNames(seams_.guests),
                                                     .disk_covered = DisksCovered(seams_.guests)},
                                      protocol.interval_ns, *publisher_, clock_);
  HAVEN_ASSIGN_OR_RETURN(pump_, HeartbeatPump::Start(BeatNs()));
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  poll_.emplace(std::move(poll));
  HAVEN_ASSIGN_OR_RETURN(PollSet guests, PollSet::Create());
  guests_.emplace(std::move(guests));
  for (const GuestPorts& guest : seams_.guests) {
    const int fd = guest.suspend->event_fd();
    if (fd >= 0) HAVEN_RETURN_IF_ERROR(guests_->Add(fd));
    guests_announce_ = guests_announce_ && fd >= 0;
  }
  return poll_->Add(mailbox_->fd());
}

int64_t EngineLoop::BeatNs() const {
  return HeartbeatPump::IntervalFor(options_.driver.protocol.detect_ns, options_.beat_ns);
}

absl::Status EngineLoop::OpenDriver() {
  const PrimaryConfig& protocol = options_.driver.protocol;
  HelloParameters parameters;
  parameters.offer = options_.offer;
  // Without it the backup need not set memory aside for it either.
  if (!options_.driver.codec.enabled) parameters.offer.optional &= ~kCodecFeatures;
  parameters.node_id = options_.node_id;
  parameters.group = options_.group;
  parameters.slot_bytes = options_.slot_bytes;
  parameters.staging_bytes = options_.staging_bytes;
  parameters.detect_ns = protocol.detect_ns;
  parameters.interval_ns = protocol.interval_ns;
  parameters.return_address = options_.return_address;
  std::vector<Domain*> domains;
  for (const GuestPorts& guest : seams_.guests) domains.push_back(guest.domain);
  DialOptions dial;
  HAVEN_ASSIGN_OR_RETURN(dial.hello, BuildHello(parameters, domains));
  dial.backup_address = options_.backup_address;
  dial.staging_bytes = options_.staging_bytes;
  // Sooner than the protocol's own deadlines, so that an attempt ends with its cause.
  dial.session_timeout = absl::Nanoseconds(protocol.session_deadline_ns) * 4 / 5;
  dial.open_timeout = absl::Nanoseconds(protocol.open_deadline_ns) * 4 / 5;
  dial.step_timeout = dial.open_timeout / 4;
  HAVEN_ASSIGN_OR_RETURN(
      connector_, TransportBackupConnector::Create(*seams_.transport, std::move(dial), *pump_));
  HAVEN_ASSIGN_OR_RETURN(arbiter_, ThreadArbiterPort::Create(seams_.arbiter, options_.group,
                                                             options_.arbiter_timeout));
  PrimaryDriverOptions driver = options_.driver;
  driver.stuck_ns = std::max(driver.stuck_ns, LongestStepNs(options_.staging_bytes));
  driver.codec.max_epoch_pages = options_.staging_bytes / kPageBytes;
  std::vector<uint64_t> page_counts;
  for (const Domain* domain : domains) page_counts.push_back(domain->memory().page_count());
  HAVEN_RETURN_IF_ERROR(CheckCodecMemory(driver.codec, page_counts, options_.copy_workers + 1));
  pool_ = std::make_unique<CopyPool>(options_.copy_workers);
  driver.beat_ns = HeartbeatPump::ChannelIntervalFor(protocol.detect_ns, BeatNs());
  driver.life_check_ns = std::clamp(2 * driver.beat_ns, driver.life_check_ns, kLifeCheckMaxNs);
  driver_ = std::make_unique<PrimaryDriver>(driver, seams_.guests, *seams_.output, *connector_,
                                            *arbiter_, ids_, *pool_, clock_, *status_);
  status_->Attach(*driver_, *seams_.output, *arbiter_);
  HAVEN_RETURN_IF_ERROR(poll_->Add(connector_->fd()));
  return poll_->Add(arbiter_->fd());
}

EngineResult EngineLoop::Run(const std::optional<Register>& current) {
  driver_->Start(current);
  for (;;) {
    Turn();
    if (Over()) break;
    Wait();
  }
  mailbox_->Close();
  EngineResult result;
  result.end = driver_->primary().end();
  result.value = driver_->primary().registers().known();
  result.cause = driver_->primary().cause();
  if (result.end != PrimaryEnd::kNotYet) return result;
  result.outdated = !stop_;
  result.cause = stop_ ? "stopped" : std::string(driver_->outdated().message());
  return result;
}

bool EngineLoop::Over() const {
  return stop_ || driver_->primary().end() != PrimaryEnd::kNotYet || !driver_->outdated().ok();
}

// Everything that can be done now.
void EngineLoop::Turn() {
  mailbox_->Serve([this](const Command& command) { return Serve(command); });
  while (std::optional<RegisterAnswer> answer = arbiter_->Next()) driver_->OnArbiterAnswer(*answer);
  driver_->Poll();
  Vouch();
  FollowLink();
  WatchGuests();
  status_->Update();
}

void EngineLoop::Vouch() {
  const int64_t now_ns = clock_.NowNs();
  if (!driver_->primary().healthy(now_ns)) return;
  pump_->Vouch(driver_->alive_until_ns(),
               static_cast<uint32_t>(PrimaryWireState(driver_->primary(), now_ns)));
}

// The connector has taken an ended link's lane away from the pump.
void EngineLoop::FollowLink() {
  const Link* const link = connector_->data_link();
  const Primary& primary = driver_->primary();
  const bool up = link != nullptr && driver_->beat_link() != nullptr;
  const SessionId session = up ? primary.session() : kNoSession;
  const LinkNumber number = up ? primary.link() : kNoLink;
  if (session == followed_session_ && number == followed_link_) return;
  followed_session_ = session;
  followed_link_ = number;
  if (followed_fd_) poll_->Remove(followed_fd_.get());
  followed_fd_.reset();
  if (!up) return;
  pump_->SetLane(std::make_unique<PrimaryBeatLane>(
      *driver_->session_memory(), number, pump_->last_counter(session), *driver_->beat_link()));
  // A link that can not be watched is polled as often as the protocol's deadlines come.
  if (link->event_fd() < 0) return;
  followed_fd_ = UniqueFd(fcntl(link->event_fd(), F_DUPFD_CLOEXEC, 0));
  if (!followed_fd_ || !poll_->Add(followed_fd_.get()).ok()) followed_fd_.reset();
}

// Only while somebody asks the guests: a descriptor that stays readable would keep the loop awake.
void EngineLoop::WatchGuests() {
  const Primary::Phase phase = driver_->primary().phase();
  const bool wanted = phase == Primary::Phase::kStopping || phase == Primary::Phase::kResuming ||
                      phase == Primary::Phase::kTakingBack;
  if (wanted == guests_watched_) return;
  guests_watched_ = wanted;
  if (wanted) {
    guests_watched_ = poll_->Add(guests_->fd()).ok();
  } else {
    poll_->Remove(guests_->fd());
  }
}

// Guests that say when they have stopped are left in peace until then: what a look costs is taken
// from the processor on which they stop. What they should not say is found by the looks at life.
bool EngineLoop::WaitsUnannounced() const {
  if (!driver_->busy()) return false;
  const Primary& primary = driver_->primary();
  const bool stopping = primary.phase() == Primary::Phase::kStopping ||
                        primary.phase() == Primary::Phase::kTakingBack;
  const bool announced = stopping && guests_announce_ && guests_watched_;
  return !announced || primary.epoch_in_flight() != kNoEpoch;
}

void EngineLoop::Wait() {
  if (arbiter_->ready()) return;
  int64_t now_ns = clock_.NowNs();
  const bool busy = driver_->busy();
  if (!busy) busy_since_ns_ = 0;
  if (busy && busy_since_ns_ == 0) busy_since_ns_ = now_ns;
  if (busy && now_ns < busy_since_ns_ + options_.spin_ns) return;
  Link* const link = connector_->data_link();
  if (link != nullptr && followed_fd_ && (!link->armed() || poll_->WasReady(followed_fd_.get()))) {
    // What came before the event was armed is found by one more look.
    const LinkNumber number = followed_link_;
    const bool armed = link->ArmEvent().ok();
    Turn();
    if (!armed || Over() || arbiter_->ready() || followed_link_ != number) return;
  }
  int64_t until_ns = std::min(driver_->NextWakeNs(), status_->NextWakeNs());
  if (WaitsUnannounced()) {
    now_ns = clock_.NowNs();
    const int64_t pause_ns =
        std::clamp((now_ns - busy_since_ns_) / 4, kBusyPollMinNs, kBusyPollMaxNs);
    until_ns = std::min(until_ns, now_ns + pause_ns);
  }
  poll_->WaitUntil(until_ns);
  connector_->SetReadable(poll_->WasReady(connector_->fd()));
}

EngineLoop::Reply EngineLoop::Serve(const Command& command) {
  Reply reply;
  switch (command.kind) {
    case Command::Kind::kUnprotect:
      driver_->Unprotect();
      break;
    case Command::Kind::kHandover:
      reply.status = driver_->RequestHandover();
      break;
    case Command::Kind::kSetInterval:
      driver_->SetInterval(command.interval_ns);
      status_->SetInterval(command.interval_ns);
      break;
    case Command::Kind::kSetCodec:
      reply.status = driver_->SetCodecMode(command.codec);
      break;
    case Command::Kind::kSnapshot:
      reply.snapshot = status_->Take();
      break;
    case Command::Kind::kStop:
      stop_ = true;
      break;
  }
  return reply;
}

absl::Status EngineLoop::Ask(const Command& command, absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const Reply reply, mailbox_->Call(command, timeout));
  return reply.status;
}

absl::Status EngineLoop::Unprotect(absl::Duration timeout) {
  return Ask({.kind = Command::Kind::kUnprotect}, timeout);
}

absl::Status EngineLoop::Handover(absl::Duration timeout) {
  return Ask({.kind = Command::Kind::kHandover}, timeout);
}

absl::Status EngineLoop::SetInterval(int64_t interval_ns, absl::Duration timeout) {
  if (interval_ns < kIntervalMinNs || interval_ns > kIntervalMaxNs) {
    return absl::InvalidArgumentError(
        absl::StrCat("an interval of ", interval_ns, " ns; 1 ms to 1 h are possible"));
  }
  return Ask({.kind = Command::Kind::kSetInterval, .interval_ns = interval_ns}, timeout);
}

absl::Status EngineLoop::SetCodec(CodecMode mode, absl::Duration timeout) {
  return Ask({.kind = Command::Kind::kSetCodec, .codec = mode}, timeout);
}

absl::StatusOr<StatusSnapshot> EngineLoop::Snapshot(absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(Reply reply, mailbox_->Call({.kind = Command::Kind::kSnapshot}, timeout));
  return *std::move(reply.snapshot);
}

absl::Status EngineLoop::Stop(absl::Duration timeout) {
  return Ask({.kind = Command::Kind::kStop}, timeout);
}

}  // namespace haven
