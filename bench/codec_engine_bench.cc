// SPDX-License-Identifier: Apache-2.0
//
// The whole engine under real loads, two processes over shared memory, with every mode of the codec
// in turn:
//
//   codec_engine_bench [--json=FILE] [--interval_ms=N] [--rounds=N] TRACE ...
//
// A trace is played in the guest, one of its intervals an epoch, while the guest's only processor
// computes. "without": an engine that takes no memory for the codec and does not offer it to the
// backup. "hashes": one that keeps hashes of all pages and no bytes, as the papers' FGBI does, in
// mode fgbi. "auto": one that is left to its policy. The others are one engine that keeps the bytes
// of all pages, switched while epochs go on. pause: asked to stop until told to run, which is the
// papers' type II downtime. commit: from there until the held output may go. guest: how much slower
// the computation is than alone; the backup takes the same processors. cpu: what the primary spends
// on each second, all threads, playing the trace included.
//
// What is compared is measured side by side. A group of measurements is: the guest alone, without,
// off and auto one after the other, and one step of the ablation; all engines are there all the
// time, and those that are not measured rest. Pause and commit are held against `off` of the same
// group, the guest against the guest alone. Reported are medians over all groups with quartiles.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "bench/codec_results.h"
#include "bench/trace_ports.h"
#include "engine/base/check.h"
#include "transport/shm/testing/forked_peer.h"

ABSL_FLAG(uint32_t, interval_ms, 25, "from the start of an epoch to that of the next");
ABSL_FLAG(uint32_t, rounds, 4, "groups of measurements with each step of the ablation");

namespace haven {
namespace {

using nlohmann::json;

constexpr absl::Duration kAnswer = absl::Seconds(60);
// Of an engine that rests: longer than any measurement.
constexpr int64_t kRestNs = 3600 * kNsPerSecond;

// Epochs of one measurement. The first ones are left out: the baselines have to fill, a policy has
// to learn. Where there are no baselines, more and shorter measurements say more.
struct Length {
  size_t settle;
  size_t epochs;
};
constexpr Length kShort = {.settle = 3, .epochs = 21};
constexpr Length kLong = {.settle = 16, .epochs = 32};

// What an engine keeps of the pages.
enum class Kept { kNothing, kHashes, kBytes };

// The papers' ablation, and its first step by hashes.
struct Step {
  const char* name;
  Kept kept;
  CodecMode mode;
};
constexpr std::array kSteps = {Step{"fgbi", Kept::kBytes, CodecMode::kFgbi},
                               Step{"hashes", Kept::kHashes, CodecMode::kFgbi},
                               Step{"sharing", Kept::kBytes, CodecMode::kSharing},
                               Step{"compression", Kept::kBytes, CodecMode::kCompression},
                               Step{"both", Kept::kBytes, CodecMode::kBoth}};

// On the straight line between the two values around it.
double Quantile(std::vector<double> values, double quantile) {
  HAVEN_CHECK(!values.empty());
  std::ranges::sort(values);
  const double at = quantile * static_cast<double>(values.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return std::lerp(values[below], values[above], at - static_cast<double>(below));
}

double Us(const std::vector<int64_t>& times_ns, double quantile) {
  return Quantile(std::vector<double>(times_ns.begin(), times_ns.end()), quantile) * 1e-3;
}

json Spread(const std::vector<double>& values) {
  return {{"low", Quantile(values, 0.25)},
          {"median", Quantile(values, 0.5)},
          {"high", Quantile(values, 0.75)}};
}

struct Slice {
  GuestView seen;
  uint64_t pages = 0;
  uint64_t wire_bytes = 0;
  uint64_t coded_epochs = 0;
};

// All measurements of one mode.
struct Measured {
  Slice sum;
  std::vector<double> pause_ratios;   // Medians, against those of `off`.
  std::vector<double> commit_ratios;  // The same.
  std::vector<double> guest_percent;  // Slower than alone.

  void Add(const Slice& slice, const Slice& off, double alone) {
    const auto append = [](const std::vector<int64_t>& from, std::vector<int64_t>* to) {
      to->insert(to->end(), from.begin(), from.end());
    };
    append(slice.seen.pause_ns, &sum.seen.pause_ns);
    append(slice.seen.commit_ns, &sum.seen.commit_ns);
    sum.seen.seconds += slice.seen.seconds;
    sum.seen.cpu_seconds += slice.seen.cpu_seconds;
    sum.pages += slice.pages;
    sum.wire_bytes += slice.wire_bytes;
    sum.coded_epochs += slice.coded_epochs;
    pause_ratios.push_back(Us(slice.seen.pause_ns, 0.5) / Us(off.seen.pause_ns, 0.5));
    commit_ratios.push_back(Us(slice.seen.commit_ns, 0.5) / Us(off.seen.commit_ns, 0.5));
    guest_percent.push_back(100 * (1 - slice.seen.work / slice.seen.seconds / alone));
  }
};

StatusSnapshot StatusOf(EngineLoop& loop) {
  absl::StatusOr<StatusSnapshot> status = loop.Snapshot(kAnswer);
  HAVEN_CHECK_OK(status);
  return *std::move(status);
}

// A process that waits for a primary. Made before this one has a second thread.
class BackupProcess {
 public:
  BackupProcess()
      : process_([this] {
          const auto listener = transport_.Listen(place_.address());
          HAVEN_CHECK_OK(listener);
          BenchReplicaFactory factory;
          MakeSession(place_, **listener, transport_, factory)->Run();
          return 0;
        }) {}

  const PairPlace& place() const { return place_; }
  ShmTransport& transport() { return transport_; }

 private:
  PairPlace place_;
  ShmTransport transport_;
  ForkedPeer process_;
};

// A guest with its engine, which rests unless it is measured.
class Primary {
 public:
  Primary(BackupProcess& backup, const PageTrace& trace, Kept kept) : ports_(trace) {
    PairShape shape{.guest_pages = trace.page_count, .dirty_pages = 0};
    const bool bytes = kept == Kept::kBytes;
    shape.codec = {.enabled = kept != Kept::kNothing,
                   .mode = CodecMode::kOff,
                   .cache_bytes = bytes ? uint64_t{trace.page_count} * kPageBytes : 0,
                   .hashes = kept == Kept::kHashes};
    loop_ = MakeEngine(backup.place(), shape, ports_, backup.transport());
    thread_ = std::thread([this] { loop_->Run(std::nullopt); });
    // The first epoch whose output is released: from here on it is protected.
    ports_.Watch(1);
    Rest();
  }
  ~Primary() {
    HAVEN_CHECK_OK(loop_->Stop(kAnswer));
    thread_.join();
  }

  // Of the guest alone: the better of two looks, as one epoch may still be due.
  double StepsPerSecond() {
    ports_.SetResting(false);
    const double first = ports_.StepsPerSecond();
    const double second = ports_.StepsPerSecond();
    ports_.SetResting(true);
    return std::max(first, second);
  }

  Slice Measure(const Length& length) {
    ports_.SetResting(false);
    SetInterval(int64_t{absl::GetFlag(FLAGS_interval_ms)} * kNsPerMs);
    ports_.Watch(length.settle);
    const StatusSnapshot before = StatusOf(*loop_);
    Slice slice{.seen = ports_.Watch(length.epochs)};
    const StatusSnapshot after = StatusOf(*loop_);
    slice.pages = after.counters.total_pages - before.counters.total_pages;
    slice.wire_bytes = after.counters.wire_bytes - before.counters.wire_bytes;
    slice.coded_epochs = after.codec.coded_epochs - before.codec.coded_epochs;
    Rest();
    return slice;
  }

  Slice Measure(CodecMode mode, const Length& length) {
    HAVEN_CHECK_OK(loop_->SetCodec(mode, kAnswer));
    return Measure(length);
  }

 private:
  void SetInterval(int64_t interval_ns) {
    HAVEN_CHECK_OK(loop_->SetInterval(interval_ns, kAnswer));
  }

  void Rest() {
    ports_.SetResting(true);
    SetInterval(kRestNs);
  }

  TracePorts ports_;
  std::unique_ptr<EngineLoop> loop_;
  std::thread thread_;
};

std::map<std::string, Measured> MeasureAll(const PageTrace& trace) {
  std::array<BackupProcess, 4> backups;
  Primary without(backups[0], trace, Kept::kNothing);
  Primary hashes(backups[1], trace, Kept::kHashes);
  Primary with(backups[2], trace, Kept::kBytes);
  Primary automatic(backups[3], trace, Kept::kBytes);
  std::map<std::string, Measured> modes;
  for (uint32_t round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    for (const Step& step : kSteps) {
      const double alone = with.StepsPerSecond();
      std::map<std::string, Slice> group;
      const auto measure_without = [&] { group["without"] = without.Measure(kShort); };
      // Always the same mode: its policy has learned from nothing else.
      const auto measure_auto = [&] {
        group["auto"] = automatic.Measure(CodecMode::kAuto, kShort);
      };
      // Now before `off`, now behind it.
      const bool first = round % 2 == 0;
      first ? measure_without() : measure_auto();
      group["off"] = with.Measure(CodecMode::kOff, kShort);
      first ? measure_auto() : measure_without();
      Primary& stepping = step.kept == Kept::kHashes ? hashes : with;
      group[step.name] = stepping.Measure(step.mode, kLong);
      const Slice& off = group["off"];
      for (const auto& [name, slice] : group) modes[name].Add(slice, off, alone);
    }
  }
  return modes;
}

json Report(const std::string& mode, const Measured& measured) {
  const GuestView& seen = measured.sum.seen;
  const double mean_commit = std::accumulate(seen.commit_ns.begin(), seen.commit_ns.end(), 0.0) /
                             static_cast<double>(seen.commit_ns.size()) * 1e-3;
  json row{{"mode", mode},
           {"groups", measured.guest_percent.size()},
           {"epochs", seen.commit_ns.size()},
           {"coded_epochs", measured.sum.coded_epochs},
           {"pages", measured.sum.pages},
           {"bytes_per_page",
            static_cast<double>(measured.sum.wire_bytes) / static_cast<double>(measured.sum.pages)},
           {"pause_p50_us", Us(seen.pause_ns, 0.5)},
           {"pause_p99_us", Us(seen.pause_ns, 0.99)},
           {"pause_ratio", Spread(measured.pause_ratios)},
           {"commit_p50_us", Us(seen.commit_ns, 0.5)},
           {"commit_mean_us", mean_commit},
           {"commit_ratio", Spread(measured.commit_ratios)},
           {"guest_percent", Spread(measured.guest_percent)},
           {"cpu_percent", 100 * seen.cpu_seconds / seen.seconds}};
  std::printf(
      "  %-12s %6zu epochs %7.1f bytes/page, pause p50 %7.1f p99 %7.1f us, commit p50 %8.1f "
      "mean %8.1f us, %.3f (%.3f .. %.3f) of off's, guest %5.1f %%, cpu %5.1f %%\n",
      mode.c_str(), seen.commit_ns.size(), row["bytes_per_page"].get<double>(),
      row["pause_p50_us"].get<double>(), row["pause_p99_us"].get<double>(),
      row["commit_p50_us"].get<double>(), mean_commit, row["commit_ratio"]["median"].get<double>(),
      row["commit_ratio"]["low"].get<double>(), row["commit_ratio"]["high"].get<double>(),
      row["guest_percent"]["median"].get<double>(), row["cpu_percent"].get<double>());
  return row;
}

json RunTrace(const NamedTrace& named) {
  const std::map<std::string, Measured> modes = MeasureAll(named.trace);
  std::printf("%s: %s\n", named.name.c_str(), named.trace.origin.c_str());
  json rows = json::array();
  for (const char* mode : {"without", "off", "auto"}) rows.push_back(Report(mode, modes.at(mode)));
  for (const Step& step : kSteps) rows.push_back(Report(step.name, modes.at(step.name)));
  return {
      {"trace", named.name}, {"interval_ms", absl::GetFlag(FLAGS_interval_ms)}, {"modes", rows}};
}

BenchOutcome Run(const std::vector<NamedTrace>& traces) {
  BenchOutcome outcome{.results = json::array()};
  for (const NamedTrace& trace : traces) outcome.results.push_back(RunTrace(trace));
  return outcome;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) { return haven::RunOnTraces(argc, argv, haven::Run); }
