// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_loop.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/control/status_words.h"
#include "engine/control/time_limit.h"

namespace haven {

namespace {

std::vector<std::string> GuestNames(const SessionTerms& terms) {
  std::vector<std::string> names;
  for (const HelloDomain& domain : terms.domains) names.push_back(domain.name);
  return names;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionLoop>> SessionLoop::Create(SessionOptions options,
                                                                 SessionSeams seams,
                                                                 int connection) {
  HAVEN_CHECK(seams.transport != nullptr && seams.factory != nullptr && seams.arbiter != nullptr);
  HAVEN_ASSIGN_OR_RETURN(SessionSetup setup,
                         SetUpSession(*seams.transport, options.setup, *seams.factory, connection));
  options.driver.protocol.detect_ns = static_cast<int64_t>(setup.hello.detect_ns);
  std::unique_ptr<SessionLoop> loop(
      new SessionLoop(std::move(options), std::move(seams), std::move(setup)));
  absl::Status opened = loop->Open();
  if (opened.ok()) opened = loop->OpenDriver();
  if (!opened.ok()) {
    // The connector has the channel from the moment it exists; a peer left by it sees the channel
    // closed.
    if (loop->setup_.channel == nullptr) return opened;
    return RefusePeer(*loop->setup_.channel, RefuseCode::kInternal, opened);
  }
  return loop;
}

SessionLoop::SessionLoop(SessionOptions options, SessionSeams seams, SessionSetup setup)
    : options_(std::move(options)),
      seams_(std::move(seams)),
      clock_(SystemClock::Get()),
      setup_(std::move(setup)) {}

SessionLoop::~SessionLoop() = default;

absl::Status SessionLoop::Open() {
  HAVEN_ASSIGN_OR_RETURN(mailbox_, (Mailbox<Command, Reply>::Create()));
  const StatusPaths paths = options_.paths == nullptr ? StatusPaths{} : options_.paths(group());
  HAVEN_ASSIGN_OR_RETURN(
      publisher_, StatusPublisher::Start(paths, [this] { return seams_.transport->Warning(); }));
  status_ = std::make_unique<BackupStatus>(StatusIdentity{.role = "backup",
                                                          .node_id = options_.node_id,
                                                          .group = group(),
                                                          .guests = GuestNames(setup_.terms)},
                                           ProtectedAgeNs(), *publisher_, clock_);
  HAVEN_ASSIGN_OR_RETURN(pump_, HeartbeatPump::Start(BeatNs()));
  HAVEN_ASSIGN_OR_RETURN(door_, SessionDoor::Open(*seams_.transport, options_.session_address,
                                                  options_.door_patience));
  HAVEN_ASSIGN_OR_RETURN(
      arbiter_, ThreadArbiterPort::Create(seams_.arbiter, group(), options_.arbiter_timeout));
  HAVEN_ASSIGN_OR_RETURN(PollSet poll, PollSet::Create());
  poll_.emplace(std::move(poll));
  HAVEN_RETURN_IF_ERROR(poll_->Add(mailbox_->fd()));
  return poll_->Add(arbiter_->fd());
}

int64_t SessionLoop::ProtectedAgeNs() const {
  const auto interval_ns = static_cast<int64_t>(setup_.hello.interval_ns);
  return std::max({options_.protected_age_ns, kProtectedIntervals * interval_ns,
                   static_cast<int64_t>(setup_.hello.detect_ns)});
}

ReplicaParts SessionLoop::Parts() const {
  ReplicaParts parts;
  parts.group = group();
  parts.node_id = options_.node_id;
  parts.agreement = setup_.terms.agreement;
  parts.geometry = setup_.terms.geometry;
  parts.journal = setup_.memory->journal;
  parts.session_address = door_->address();
  parts.scratch = setup_.memory->scratch;
  for (size_t i = 0; i < setup_.replicas.size(); ++i) {
    parts.replicas.push_back(setup_.replicas[i].get());
    parts.max_state_bytes.push_back(setup_.terms.domains[i].max_state_bytes);
  }
  return parts;
}

int64_t SessionLoop::BeatNs() const {
  return HeartbeatPump::IntervalFor(options_.driver.protocol.detect_ns, options_.beat_ns);
}

absl::Status SessionLoop::OpenDriver() {
  const PrimaryConnectorOptions options = {.offer = options_.setup.offer,
                                           .step_timeout = options_.step_timeout,
                                           .link_timeout = options_.link_timeout};
  FirstHello first = {.channel = std::move(setup_.channel),
                      .session = setup_.hello.session,
                      .seal_key = setup_.seal_key};
  HAVEN_ASSIGN_OR_RETURN(connector_, TransportPrimaryConnector::Create(
                                         *seams_.transport, options, setup_.terms, setup_.memory,
                                         std::move(first), *door_, *pump_));
  BackupDriverOptions driver = options_.driver;
  // One step verifies all that has come of an epoch.
  driver.stuck_ns = std::max(driver.stuck_ns, LongestStepNs(uint64_t{setup_.hello.max_epoch_slots} *
                                                            setup_.hello.slot_bytes));
  driver.beat_ns = HeartbeatPump::ChannelIntervalFor(driver.protocol.detect_ns, BeatNs());
  HAVEN_ASSIGN_OR_RETURN(driver_, BackupDriver::Create(driver, Parts(), *connector_, *arbiter_,
                                                       ids_, clock_, *status_));
  driver_->SetApplyDelay(options_.apply_delay_ns);
  status_->Attach(*driver_, *door_, *arbiter_);
  if (driver_->apply_event_fd() >= 0) {
    HAVEN_RETURN_IF_ERROR(poll_->Add(driver_->apply_event_fd()));
  }
  return poll_->Add(connector_->fd());
}

SessionResult SessionLoop::Run() {
  driver_->Start(setup_.hello);
  for (;;) {
    Turn();
    if (Over()) break;
    Wait();
  }
  mailbox_->Close();
  const Backup& backup = driver_->backup();
  SessionResult result;
  result.end = backup.end();
  result.value = backup.registers().known();
  result.cause = stop_ && result.end == BackupEnd::kNotYet ? "stopped" : backup.cause();
  return result;
}

bool SessionLoop::Over() const { return stop_ || driver_->backup().end() != BackupEnd::kNotYet; }

void SessionLoop::Turn() {
  mailbox_->Serve([this](const Command& command) { return Serve(command); });
  while (std::optional<RegisterAnswer> answer = arbiter_->Next()) driver_->OnArbiterAnswer(*answer);
  driver_->Poll();
  Vouch();
  FollowLink();
  status_->Update();
}

void SessionLoop::Vouch() {
  if (!driver_->backup().healthy(clock_.NowNs())) return;
  pump_->Vouch(driver_->alive_until_ns(), static_cast<uint32_t>(driver_->WireState()));
}

void SessionLoop::FollowLink() {
  const Link* const link = connector_->data_link();
  const Backup& backup = driver_->backup();
  const bool up = link != nullptr && driver_->beat_link() != nullptr;
  const SessionId session = up ? backup.session() : kNoSession;
  const LinkNumber number = up ? backup.link() : kNoLink;
  if (session == followed_session_ && number == followed_link_) return;
  followed_session_ = session;
  followed_link_ = number;
  if (followed_fd_) poll_->Remove(followed_fd_.get());
  followed_fd_.reset();
  if (!up) return;
  pump_->SetLane(std::make_unique<BackupBeatLane>(session, number, pump_->last_counter(session),
                                                  setup_.memory->scratch, driver_->peer_block(),
                                                  *driver_->beat_link()));
  if (link->event_fd() < 0) return;
  followed_fd_ = UniqueFd(fcntl(link->event_fd(), F_DUPFD_CLOEXEC, 0));
  if (!followed_fd_ || !poll_->Add(followed_fd_.get()).ok()) followed_fd_.reset();
}

void SessionLoop::Wait() {
  if (arbiter_->ready() || clock_.NowNs() < spin_until_ns_) return;
  Link* const link = connector_->data_link();
  if (link != nullptr && followed_fd_ && (!link->armed() || poll_->WasReady(followed_fd_.get()))) {
    const LinkNumber number = followed_link_;
    const bool armed = link->ArmEvent().ok();
    // What came before the event was armed is found by one more look.
    Turn();
    if (!armed || Over() || arbiter_->ready() || followed_link_ != number) return;
  }
  const bool found = poll_->WaitUntil(std::min(driver_->NextWakeNs(), status_->NextWakeNs()));
  connector_->SetReadable(poll_->WasReady(connector_->fd()));
  if (found) {
    spin_until_ns_ = clock_.NowNs() + options_.spin_ns;
  }
}

absl::Status SessionLoop::MayStop() const {
  const Backup& backup = driver_->backup();
  const bool idle = backup.state() == Backup::State::kSyncing ||
                    backup.state() == Backup::State::kStale ||
                    backup.state() == Backup::State::kWaiting;
  if (idle) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the replica of group ", group(), " is in state ", Backup::StateName(backup.state()),
      ": without it the group is not protected; unprotect it at the primary first"));
}

SessionLoop::Reply SessionLoop::Serve(const Command& command) {
  Reply reply;
  switch (command.kind) {
    case Command::Kind::kPromote:
      reply.status = driver_->Promote();
      break;
    case Command::Kind::kSnapshot:
      reply.snapshot = status_->Take();
      break;
    case Command::Kind::kStop:
      if (!command.force) reply.status = MayStop();
      stop_ = reply.status.ok();
      break;
  }
  return reply;
}

absl::Status SessionLoop::Promote(absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const Reply reply,
                         mailbox_->Call({.kind = Command::Kind::kPromote}, timeout));
  return reply.status;
}

absl::StatusOr<StatusSnapshot> SessionLoop::Snapshot(absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(Reply reply, mailbox_->Call({.kind = Command::Kind::kSnapshot}, timeout));
  return *std::move(reply.snapshot);
}

absl::Status SessionLoop::Stop(bool force, absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(const Reply reply,
                         mailbox_->Call({.kind = Command::Kind::kStop, .force = force}, timeout));
  return reply.status;
}

}  // namespace haven
