// SPDX-License-Identifier: Apache-2.0
//
// The whole engine under real loads, two processes over shared memory, with every mode of the codec
// in turn:
//
//   codec_engine_bench [--json=FILE] [--interval_ms=N] [--epochs=N] [--rounds=N] TRACE ...
//
// A trace is played in the guest, one of its intervals an epoch, while the guest's only processor
// computes. "without": the engine takes no memory for the codec and does not offer it to the
// backup; the others are switched while epochs go on. pause: asked to stop until told to run, which
// is the papers' type II downtime. commit: from there until the held output may go. guest: how much
// slower the computation is than before it was protected; the backup takes the same processors.
// cpu: what the primary spends on each second, all threads, playing the trace included.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "bench/trace_ports.h"
#include "engine/base/check.h"

ABSL_FLAG(std::string, json, "", "file for the results as JSON");
ABSL_FLAG(uint32_t, interval_ms, 25, "from the start of an epoch to that of the next");
ABSL_FLAG(uint32_t, epochs, 48, "of each measurement");
ABSL_FLAG(uint32_t, rounds, 3, "measurements of each mode, in turn");

namespace haven {
namespace {

using nlohmann::json;

constexpr absl::Duration kAnswer = absl::Seconds(60);
// The first epochs of a mode are left out: the baselines have to fill, a policy has to learn.
constexpr size_t kSettleEpochs = 16;
constexpr CodecMode kModes[] = {CodecMode::kOff,     CodecMode::kAuto,        CodecMode::kFgbi,
                                CodecMode::kSharing, CodecMode::kCompression, CodecMode::kBoth};

// Of all rounds of one mode.
struct Measured {
  GuestView seen;
  uint64_t pages = 0;
  uint64_t wire_bytes = 0;

  void Add(GuestView view) {
    seen.pause_ns.insert(seen.pause_ns.end(), view.pause_ns.begin(), view.pause_ns.end());
    seen.commit_ns.insert(seen.commit_ns.end(), view.commit_ns.begin(), view.commit_ns.end());
    seen.seconds += view.seconds;
    seen.work += view.work;
    seen.cpu_seconds += view.cpu_seconds;
  }
};

double Us(std::vector<int64_t> times, double quantile) {
  HAVEN_CHECK(!times.empty());
  const auto at =
      times.begin() + static_cast<long>(quantile * static_cast<double>(times.size() - 1));
  std::nth_element(times.begin(), at, times.end());
  return static_cast<double>(*at) * 1e-3;
}

StatusSnapshot StatusOf(EngineLoop& loop) {
  absl::StatusOr<StatusSnapshot> status = loop.Snapshot(kAnswer);
  HAVEN_CHECK_OK(status);
  return *std::move(status);
}

// A guest with its engine, and a backup.
class Pair {
 public:
  Pair(const PageTrace& trace, bool codec)
      : backup_([this] {
          const auto listener = transport_.Listen(place_.address());
          HAVEN_CHECK_OK(listener);
          BenchReplicaFactory factory;
          MakeSession(place_, **listener, transport_, factory)->Run();
          return 0;
        }),
        ports_(trace) {
    PairShape shape{.guest_pages = trace.page_count, .dirty_pages = 0};
    shape.codec = {.enabled = codec,
                   .mode = CodecMode::kOff,
                   .cache_bytes = uint64_t{trace.page_count} * kPageBytes,
                   .hashes = false};
    loop_ = MakeEngine(place_, shape, ports_, transport_);
    thread_ = std::thread([this] { loop_->Run(std::nullopt); });
    HAVEN_CHECK_OK(
        loop_->SetInterval(int64_t{absl::GetFlag(FLAGS_interval_ms)} * kNsPerMs, kAnswer));
    // The first epoch whose output is released: from here on it is protected.
    ports_.Watch(1);
  }
  ~Pair() {
    HAVEN_CHECK_OK(loop_->Stop(kAnswer));
    thread_.join();
  }

  void Switch(CodecMode mode) { HAVEN_CHECK_OK(loop_->SetCodec(mode, kAnswer)); }

  void Measure(Measured* to) {
    ports_.Watch(kSettleEpochs);
    const StatusSnapshot before = StatusOf(*loop_);
    to->Add(ports_.Watch(absl::GetFlag(FLAGS_epochs)));
    const StatusSnapshot after = StatusOf(*loop_);
    to->pages += after.counters.total_pages - before.counters.total_pages;
    to->wire_bytes += after.counters.wire_bytes - before.counters.wire_bytes;
  }

 private:
  PairPlace place_;
  ShmTransport transport_;
  ForkedPeer backup_;
  TracePorts ports_;
  std::unique_ptr<EngineLoop> loop_;
  std::thread thread_;
};

json Report(const std::string& mode, const Measured& measured, double alone) {
  const GuestView& seen = measured.seen;
  const double mean_commit = std::accumulate(seen.commit_ns.begin(), seen.commit_ns.end(), 0.0) /
                             static_cast<double>(seen.commit_ns.size()) * 1e-3;
  json row{{"mode", mode},
           {"epochs", seen.commit_ns.size()},
           {"pages", measured.pages},
           {"bytes_per_page",
            static_cast<double>(measured.wire_bytes) / static_cast<double>(measured.pages)},
           {"pause_p50_us", Us(seen.pause_ns, 0.5)},
           {"pause_p99_us", Us(seen.pause_ns, 0.99)},
           {"commit_p50_us", Us(seen.commit_ns, 0.5)},
           {"commit_mean_us", mean_commit},
           {"guest_percent", 100 * (1 - seen.work / seen.seconds / alone)},
           {"cpu_percent", 100 * seen.cpu_seconds / seen.seconds}};
  std::printf(
      "  %-12s %6zu epochs %7.1f bytes/page, pause p50 %7.1f p99 %7.1f us, commit p50 %8.1f "
      "mean %8.1f us, guest %5.1f %%, cpu %5.1f %%\n",
      mode.c_str(), seen.commit_ns.size(), row["bytes_per_page"].get<double>(),
      row["pause_p50_us"].get<double>(), row["pause_p99_us"].get<double>(),
      row["commit_p50_us"].get<double>(), mean_commit, row["guest_percent"].get<double>(),
      row["cpu_percent"].get<double>());
  return row;
}

json RunTrace(const std::string& path) {
  const absl::StatusOr<PageTrace> trace = ReadTrace(path);
  HAVEN_CHECK_OK(trace);
  std::string name = path.substr(path.rfind('/') + 1);
  name = name.substr(0, name.find('.'));
  Measured without;
  std::map<CodecMode, Measured> modes;
  const double alone = TracePorts::StepsAlone();
  for (uint32_t round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    {
      Pair pair(*trace, /*codec=*/false);
      pair.Measure(&without);
    }
    Pair pair(*trace, /*codec=*/true);
    for (const CodecMode mode : kModes) {
      pair.Switch(mode);
      pair.Measure(&modes[mode]);
    }
  }
  std::printf("%s: %s\n", name.c_str(), trace->origin.c_str());
  json rows = json::array({Report("without", without, alone)});
  for (const CodecMode mode : kModes)
    rows.push_back(Report(CodecModeName(mode), modes[mode], alone));
  return {{"trace", name}, {"interval_ms", absl::GetFlag(FLAGS_interval_ms)}, {"modes", rows}};
}

int Run(const std::vector<char*>& traces) {
  if (traces.empty()) {
    std::fprintf(stderr, "codec_engine_bench: name at least one trace, as bench/traces/*.trace\n");
    return 2;
  }
  json all = json::array();
  for (const char* path : traces) all.push_back(RunTrace(path));
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    std::ofstream file(path);
    file << all.dump(2) << '\n';
    file.close();
    if (!file) {
      std::fprintf(stderr, "codec_engine_bench: can not write %s\n", path.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  std::vector<char*> traces = absl::ParseCommandLine(argc, argv);
  traces.erase(traces.begin());
  return haven::Run(traces);
}
