// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_pair.h"

#include <poll.h>
#include <unistd.h>

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/backup/memory_replica.h"
#include "engine/membership/arbiter_factory.h"
#include "nlohmann/json.hpp"

namespace haven {
namespace {

constexpr size_t kStateBytes = 16384;
constexpr uint64_t kPagesPerSlot = 63;  // Of kDefaultSlotBytes.
constexpr int kPatienceMs = 60'000;
constexpr size_t kPausesMax = size_t{1} << 20;

std::vector<Gfn> DirtyFramesOf(const PairShape& shape) {
  const uint64_t span = shape.one_of > 0 ? shape.dirty_pages * shape.one_of : shape.guest_pages;
  HAVEN_CHECK_LE(span, shape.guest_pages);
  return SpreadFrames(span, shape.dirty_pages, 1);
}

// Largest epoch with room for the first copying.
uint64_t StagingBytes(const PairShape& shape) {
  const uint64_t slots = shape.dirty_pages / kPagesPerSlot + 2;
  return std::max(uint64_t{64} << 20, slots * kDefaultSlotBytes);
}

}  // namespace

void Await(const char* what, int64_t look_ns, const std::function<bool()>& done) {
  const int64_t deadline_ns = SystemClock::Get().NowNs() + kPatienceMs * 2 * kNsPerMs;
  while (!done()) {
    HAVEN_CHECK_LT(SystemClock::Get().NowNs(), deadline_ns) << "waiting for " << what;
    usleep(static_cast<useconds_t>(look_ns / kNsPerUs));
  }
}

BenchPorts::BenchPorts(const PairShape& shape)
    : BenchGuest(shape.guest_pages, DirtyFramesOf(shape), kStateBytes) {
  pauses_.reserve(kPausesMax);
  info_ = {.name = "bench", .uuid = "00000000-0000-4000-8000-000000000001", .config = "bench"};
}

absl::Status BenchPorts::EnableLogDirty() {
  DirtyAll();
  return absl::OkStatus();
}

absl::Status BenchPorts::Request() {
  DirtyFrames();
  stopped_ = true;
  stopped_at_ns_ = SystemClock::Get().NowNs();
  return absl::OkStatus();
}

SuspendMethod::State BenchPorts::Poll() {
  return stopped_ ? SuspendMethod::State::kSuspended : SuspendMethod::State::kRunning;
}

absl::Status BenchPorts::Resume() {
  if (stopped_ && recording_.load(std::memory_order_relaxed) && pauses_.size() < kPausesMax) {
    pauses_.push_back(SystemClock::Get().NowNs() - stopped_at_ns_);
  }
  stopped_ = false;
  return absl::OkStatus();
}

PairPlace::PairPlace() { std::ofstream(folder_.path() / "haven-arbiter").flush(); }

std::string PairPlace::address() const {
  return absl::StrCat("unix:", (folder_.path() / "backup.sock").string());
}

std::shared_ptr<Arbiter> PairPlace::arbiter() const {
  absl::StatusOr<std::unique_ptr<Arbiter>> made =
      MakeArbiter(absl::StrCat("file:", folder_.path().string()));
  HAVEN_CHECK_OK(made);
  return *std::move(made);
}

StatusPaths PairPlace::backup_paths() const {
  return {(folder_.path() / "status").string(), (folder_.path() / "events").string()};
}

int64_t PairPlace::EventNs(const std::string& cause) const {
  std::ifstream events(backup_paths().events);
  int64_t found_ns = 0;
  for (std::string line; std::getline(events, line);) {
    const nlohmann::json event = nlohmann::json::parse(line);
    if (event.at("cause") != cause) continue;
    absl::Time time;
    std::string error;
    HAVEN_CHECK(
        absl::ParseTime(absl::RFC3339_full, event.at("time").get<std::string>(), &time, &error))
        << error;
    found_ns = absl::ToUnixNanos(time);
  }
  HAVEN_CHECK_NE(found_ns, 0) << "no event: " << cause;
  return found_ns;
}

std::unique_ptr<EngineLoop> MakeEngine(const PairPlace& place, const PairShape& shape,
                                       BenchPorts& ports, Transport& transport) {
  EngineOptions options;
  options.node_id = "host-a";
  options.group = "bench";
  options.backup_address = place.address();
  options.staging_bytes = StagingBytes(shape);
  options.copy_workers = shape.copy_workers;
  options.driver.codec = shape.codec;
  PrimaryConfig& protocol = options.driver.protocol;
  protocol.owner = "host-a.0000000000000001";
  protocol.interval_ns = shape.interval_ns;
  // Benchmarks may be descheduled for long, and preparing gigabytes takes its time.
  protocol.detect_ns = 5 * kNsPerSecond;
  protocol.progress_ns = 20 * kNsPerSecond;
  protocol.open_deadline_ns = 60 * kNsPerSecond;
  protocol.protected_age_ns = 20 * kNsPerSecond;
  protocol.session_retry_ns = 20 * kNsPerMs;
  EngineSeams seams;
  seams.guests = {{&ports, &ports}};
  seams.output = &ports;
  seams.transport = &transport;
  seams.arbiter = place.arbiter();
  absl::StatusOr<std::unique_ptr<EngineLoop>> loop =
      EngineLoop::Create(std::move(options), std::move(seams));
  HAVEN_CHECK_OK(loop);
  return *std::move(loop);
}

std::unique_ptr<SessionLoop> MakeSession(const PairPlace& place, Listener& listener,
                                         Transport& transport, ReplicaFactory& factory,
                                         int64_t apply_delay_ns) {
  SessionOptions options;
  options.node_id = "host-b";
  options.setup.hello_timeout = absl::Seconds(30);
  options.setup.journal.max_bytes = uint64_t{16} << 30;
  options.apply_delay_ns = apply_delay_ns;
  options.driver.protocol.owner = "host-b.0000000000000002";
  options.paths = [&place](const std::string&) { return place.backup_paths(); };
  pollfd waiting = {listener.fd(), POLLIN, 0};
  HAVEN_CHECK_EQ(poll(&waiting, 1, kPatienceMs), 1) << "no primary has come";
  absl::StatusOr<std::optional<int>> connection = listener.Accept();
  HAVEN_CHECK_OK(connection);
  HAVEN_CHECK(connection->has_value());
  absl::StatusOr<std::unique_ptr<SessionLoop>> loop = SessionLoop::Create(
      std::move(options),
      {.transport = &transport, .factory = &factory, .arbiter = place.arbiter()}, **connection);
  HAVEN_CHECK_OK(loop);
  return *std::move(loop);
}

absl::StatusOr<std::unique_ptr<ReplicaDomain>> BenchReplicaFactory::Build(
    const HelloDomain& domain) {
  absl::StatusOr<std::unique_ptr<MemoryReplica>> replica =
      MemoryReplica::Create({.pages = domain.page_count, .max_state_bytes = kStateBytes});
  if (!replica.ok()) return replica.status();
  return *std::move(replica);
}

}  // namespace haven
