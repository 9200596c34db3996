// SPDX-License-Identifier: Apache-2.0
#include "engine/control/primary_status.h"

#include <utility>

#include "engine/base/check.h"
#include "engine/control/status_words.h"

namespace haven {

namespace {

CodecStatus DescribeCodec(const CodecStage& codec) {
  const CodecReport report = codec.Report();
  const CodecPolicy& policy = codec.policy();
  CodecStatus status;
  status.mode = CodecModeName(report.mode);
  status.level = CodecLevelName(report.level);
  status.agreed = report.agreed;
  status.coded_epochs = report.coded_epochs;
  status.plain_epochs = report.plain_epochs;
  status.capped_epochs = report.capped_epochs;
  status.pages = report.pages.pages;
  status.unchanged = report.pages.unchanged;
  status.zero = report.pages.zero;
  status.same = report.pages.same;
  status.raw = report.pages.raw;
  status.patched = report.pages.patched;
  status.changed_blocks = report.pages.changed_blocks;
  status.shared_blocks = report.pages.shared_blocks;
  status.missed_blocks = report.pages.missed_blocks;
  status.memory_bytes = report.memory_bytes;
  status.encode_ns_per_page = static_cast<uint64_t>(policy.encode_ns_per_page(report.level));
  status.bytes_per_page = static_cast<uint64_t>(policy.bytes_per_page(report.level));
  status.wire_ps_per_byte = static_cast<uint64_t>(policy.wire_ns_per_byte() * 1000);
  return status;
}

}  // namespace

PrimaryStatus::PrimaryStatus(StatusIdentity identity, int64_t interval_ns,
                             StatusPublisher& publisher, const Clock& clock)
    : clock_(clock), tracker_(std::move(identity), publisher, clock), interval_ns_(interval_ns) {}

void PrimaryStatus::Attach(const PrimaryDriver& driver, OutputBuffer& output,
                           const ThreadArbiterPort& arbiter) {
  driver_ = &driver;
  output_ = &output;
  arbiter_ = &arbiter;
}

StatusTracker::Moment PrimaryStatus::Now() const {
  const Primary& primary = driver_->primary();
  const std::optional<Register>& known = primary.registers().known();
  return {.state = ProtectionStateName(primary.state(clock_.NowNs())),
          .term = known.has_value() ? known->term : 0,
          .session = primary.session(),
          .link = primary.link(),
          .epoch = primary.acked_epoch()};
}

void PrimaryStatus::OnReport(const char* cause) {
  HAVEN_CHECK(driver_ != nullptr);
  if (cause != nullptr) tracker_.Happened(Now(), cause, driver_->last_error());
}

void PrimaryStatus::Update() {
  const StatusTracker::Moment now = Now();
  if (tracker_.Differs(now.state)) {
    tracker_.Happened(now, ExplainPrimary(driver_->primary(), clock_.NowNs()).reason,
                      driver_->last_error());
  }
  const uint64_t resumes = driver_->times().histogram(Phase::kResume).count();
  if (resumes != resumes_) {
    pauses_.Record(driver_->counters().last_pause_ns);
    resumes_ = resumes;
  }
  if (InPause()) return;
  const uint64_t numbers = driver_->counters().epochs + driver_->counters().total_pages;
  if (!tracker_.PublishDue(numbers != published_numbers_)) return;
  published_numbers_ = numbers;
  output_stats_ = output_->stats();
  tracker_.Publish(Take());
}

// The guests stand still for an epoch, or are about to: describing it has time until they run.
// Those that are only not certain to run on (a request was taken back that they had taken) do so
// for up to 25 s.
bool PrimaryStatus::InPause() const {
  const Primary& primary = driver_->primary();
  const Primary::Phase phase = primary.phase();
  return phase != Primary::Phase::kRunning && phase != Primary::Phase::kTakingBack &&
         primary.pause_reason() == PauseReason::kNone && primary.end() == PrimaryEnd::kNotYet;
}

int64_t PrimaryStatus::NextWakeNs() const { return InPause() ? kNever : tracker_.NextWakeNs(); }

SyncStatus PrimaryStatus::DescribeSync() {
  SyncStatus sync;
  const Primary& primary = driver_->primary();
  sync.active = primary.role() == Primary::Role::kSyncing;
  if (!sync.active) {
    sync_session_ = kNoSession;
    return sync;
  }
  const int64_t now_ns = clock_.NowNs();
  if (sync_session_ != primary.session()) {
    sync_session_ = primary.session();
    sync_since_ns_ = now_ns;
  }
  sync.pages_done = driver_->counters().sync_pages;
  sync.pages_left = driver_->counters().sync_pending_pages;
  const int64_t elapsed_ns = now_ns - sync_since_ns_;
  if (elapsed_ns < 100 * kNsPerMs || sync.pages_done == 0) return sync;
  const double rate = static_cast<double>(sync.pages_done) * static_cast<double>(kNsPerSecond) /
                      static_cast<double>(elapsed_ns);
  sync.pages_per_s = static_cast<uint64_t>(rate);
  sync.left_ns = static_cast<int64_t>(static_cast<double>(sync.pages_left) / rate *
                                      static_cast<double>(kNsPerSecond));
  return sync;
}

StatusSnapshot PrimaryStatus::Take() {
  const Primary& primary = driver_->primary();
  const PrimaryCounters& counters = driver_->counters();
  const int64_t now_ns = clock_.NowNs();
  StatusSnapshot snapshot = tracker_.Begin();
  snapshot.state = ProtectionStateName(primary.state(now_ns));
  Explanation explanation = ExplainPrimary(primary, now_ns);
  snapshot.reason = std::move(explanation.reason);
  snapshot.remedy = std::move(explanation.remedy);
  snapshot.activity = PhaseWord(primary.phase());
  snapshot.last_error = std::string(driver_->last_error().message());
  snapshot.session = primary.session();
  snapshot.link = primary.link();
  snapshot.link_state = LinkStateWord(primary.link_state());
  snapshot.registered = DescribeRegister(primary.registers());
  snapshot.arbiter = tracker_.DescribeArbiter(*arbiter_, primary.registers());
  snapshot.epoch.committed = primary.acked_epoch();
  if (primary.acked_epoch() != kNoEpoch) snapshot.epoch.age_ns = now_ns - primary.last_ack_ns();
  snapshot.epoch.in_flight = primary.epoch_in_flight();
  snapshot.epoch.interval_ns = interval_ns_;
  snapshot.epoch.pages = counters.last_pages;
  snapshot.epoch.wire_bytes = counters.last_wire_bytes;
  snapshot.sync = DescribeSync();
  snapshot.output = {.held_packets = output_stats_.held_packets,
                     .held_bytes = output_stats_.held_bytes,
                     .released_packets = output_stats_.released_packets,
                     .dropped_packets = output_stats_.dropped_packets,
                     .last_held_ns = output_stats_.last_held_ns,
                     .longest_held_ns = output_stats_.longest_held_ns};
  if (driver_->codec() != nullptr) snapshot.codec = DescribeCodec(*driver_->codec());
  snapshot.counters.epochs = counters.epochs;
  snapshot.counters.links = counters.links;
  snapshot.counters.kept_logs = counters.kept_logs;
  snapshot.counters.cleared_logs = counters.cleared_logs;
  snapshot.counters.delta_pages = counters.delta_pages;
  snapshot.counters.delta_bytes = counters.delta_bytes;
  snapshot.counters.total_pages = counters.total_pages;
  snapshot.counters.zero_pages = counters.total_zero_pages;
  snapshot.counters.wire_bytes = counters.total_wire_bytes;
  snapshot.pause = {.count = pauses_.count(),
                    .last_ns = pauses_.last_ns(),
                    .p50_ns = pauses_.QuantileNs(500),
                    .p99_ns = pauses_.QuantileNs(990),
                    .max_ns = pauses_.max_ns()};
  snapshot.phases = driver_->times().Summarize();
  return snapshot;
}

}  // namespace haven
