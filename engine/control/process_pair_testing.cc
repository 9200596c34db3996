// SPDX-License-Identifier: Apache-2.0
#include "engine/control/process_pair_testing.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "engine/base/check.h"

namespace haven {

EngineOptions TestEngineOptions(const std::string& backup_address) {
  EngineOptions options;
  options.node_id = "host-a";
  options.group = kTestGroup;
  options.backup_address = backup_address;
  options.slot_bytes = kMinSlotBytes;
  options.staging_bytes = uint64_t{32} * kMinSlotBytes;
  options.arbiter_timeout = absl::Seconds(5);
  PrimaryConfig& protocol = options.driver.protocol;
  protocol.owner = "host-a.0000000000000001";
  protocol.interval_ns = 5 * kNsPerMs;
  protocol.detect_ns = 2 * kNsPerSecond;
  protocol.protected_age_ns = 20 * kNsPerSecond;
  protocol.rearm_ns = 20 * kNsPerSecond;
  protocol.progress_ns = 10 * kNsPerSecond;
  protocol.pause_budget_ns = 20 * kNsPerSecond;
  protocol.open_deadline_ns = 20 * kNsPerSecond;
  protocol.session_retry_ns = 50 * kNsPerMs;
  protocol.link_retry_ns = 10 * kNsPerMs;
  protocol.sync_threshold_pages = 64;
  options.driver.stuck_ns = 20 * kNsPerSecond;
  return options;
}

SessionOptions TestSessionOptions() {
  SessionOptions options;
  options.node_id = "host-b";
  options.arbiter_timeout = absl::Seconds(5);
  options.protected_age_ns = 20 * kNsPerSecond;
  options.setup.hello_timeout = absl::Seconds(5);
  options.driver.protocol.owner = "host-b.0000000000000002";
  options.driver.protocol.register_poll_ns = 20 * kNsPerMs;
  options.driver.stuck_ns = 20 * kNsPerSecond;
  return options;
}

TestEngine::TestEngine(const EngineOptions& options, const EngineSeams& seams,
                       const std::optional<Register>& current) {
  absl::StatusOr<std::unique_ptr<EngineLoop>> loop = EngineLoop::Create(options, seams);
  HAVEN_CHECK_OK(loop);
  loop_ = *std::move(loop);
  thread_ = std::thread([this, current] { result_ = loop_->Run(current); });
}

TestEngine::~TestEngine() { Destroy(); }

StatusSnapshot TestEngine::Status() {
  absl::StatusOr<StatusSnapshot> snapshot = loop_->Snapshot(kTestPatience);
  return snapshot.ok() ? *std::move(snapshot) : StatusSnapshot{};
}

bool TestEngine::Reaches(const std::string& state) {
  return WaitFor([&] { return Status().state == state; });
}

EngineResult TestEngine::Join() {
  thread_.join();
  return result_;
}

void TestEngine::Destroy() {
  if (loop_ == nullptr) return;
  loop_->Stop(kTestPatience).IgnoreError();
  if (thread_.joinable()) thread_.join();
  loop_.reset();
}

PairBackup::PairBackup(Transport& transport, const std::string& address,
                       const SessionOptions& options, ReplicaFactory& factory,
                       std::shared_ptr<Arbiter> arbiter)
    : transport_(transport),
      listener_(*transport.Listen(address)),
      options_(options),
      factory_(factory),
      arbiter_(std::move(arbiter)),
      stop_(*Cancel::Create()) {
  if (options_.setup.admit == nullptr) {
    options_.setup.admit = [this](const Hello& hello) { return Admit(hello); };
  }
  thread_ = std::thread([this] { Serve(); });
}

PairBackup::~PairBackup() {
  stop_->Set();
  thread_.join();
  for (Session& session : all_) {
    SessionLoop* loop = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      loop = session.loop.get();
    }
    if (loop != nullptr) loop->Stop(/*force=*/true, kTestPatience).IgnoreError();
    session.thread.join();
  }
}

std::optional<Refuse> PairBackup::Admit(const Hello& hello) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Session* session : running_) {
    if (session->result.has_value() || session->loop->group() != hello.group) continue;
    return Refuse{RefuseCode::kGroupBusy, "another session serves this group"};
  }
  return std::nullopt;
}

void PairBackup::Serve() {
  while (!stop_->is_set()) {
    pollfd watched[2] = {{.fd = listener_->fd(), .events = POLLIN, .revents = 0},
                         {.fd = stop_->fd(), .events = POLLIN, .revents = 0}};
    poll(watched, 2, -1);
    absl::StatusOr<std::optional<int>> connection = listener_->Accept();
    if (!connection.ok() || !connection->has_value()) continue;
    const std::lock_guard<std::mutex> lock(mutex_);
    Session* session = &all_.emplace_back();
    session->thread = std::thread([this, session, fd = **connection] { RunSession(session, fd); });
  }
}

void PairBackup::RunSession(Session* session, int connection) {
  absl::StatusOr<std::unique_ptr<SessionLoop>> loop = SessionLoop::Create(
      options_, {.transport = &transport_, .factory = &factory_, .arbiter = arbiter_}, connection);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    session->status = loop.status();
    if (!loop.ok()) {
      ++failures_;
      return;
    }
    session->loop = *std::move(loop);
    running_.push_back(session);
  }
  SessionResult result = session->loop->Run();
  const std::lock_guard<std::mutex> lock(mutex_);
  session->result = std::move(result);
}

size_t PairBackup::sessions() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return running_.size();
}

size_t PairBackup::failures() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failures_;
}

SessionLoop& PairBackup::newest() {
  const std::lock_guard<std::mutex> lock(mutex_);
  HAVEN_CHECK(!running_.empty());
  return *running_.back()->loop;
}

std::optional<SessionResult> PairBackup::newest_result() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (running_.empty()) return std::nullopt;
  return running_.back()->result;
}

StatusSnapshot PairBackup::Status() {
  if (sessions() == 0) return StatusSnapshot{};
  absl::StatusOr<StatusSnapshot> snapshot = newest().Snapshot(kTestPatience);
  return snapshot.ok() ? *std::move(snapshot) : StatusSnapshot{};
}

bool PairBackup::Reaches(const std::string& state) {
  return WaitFor([&] { return Status().state == state; });
}

}  // namespace haven
