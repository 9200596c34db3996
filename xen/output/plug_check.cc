// SPDX-License-Identifier: Apache-2.0
//
// plug_check GROUP LIMIT_BYTES DOMID NIC...: an output buffer in the hands of a script. Carries out
// the commands on its standard input, one a line, and answers each with one line: "ok", with what
// was asked for, or "error" with the reason. Ends with its input; the buffer stays.
#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "xen/output/plug_output.h"

namespace haven {
namespace {

void WaitUs(int64_t us) {
  const timespec wait = {.tv_sec = us / 1'000'000, .tv_nsec = us % 1'000'000 * kNsPerUs};
  ppoll(nullptr, 0, &wait, nullptr);
}

std::string Percentiles(const char* name, std::vector<int64_t> times_ns) {
  std::sort(times_ns.begin(), times_ns.end());
  int64_t sum_ns = 0;
  for (const int64_t time_ns : times_ns) sum_ns += time_ns;
  const auto count = static_cast<int64_t>(times_ns.size());
  return absl::StrCat(" ", name, "_mean_ns=", sum_ns / count, " ", name,
                      "_p50_ns=", times_ns[times_ns.size() / 2], " ", name,
                      "_p99_ns=", times_ns[times_ns.size() * 99 / 100]);
}

// Epochs of `interval_us`, each released right before the next one's barrier, as with a fast
// backup. Says how long the two calls took.
absl::StatusOr<std::string> RunEpochs(PlugOutput& output, int64_t count, int64_t interval_us) {
  std::vector<int64_t> barriers_ns;
  std::vector<int64_t> releases_ns;
  const uint64_t requests = output.counters().requests;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begun_ns = SystemClock::Get().NowNs();
    HAVEN_RETURN_IF_ERROR(output.Barrier());
    barriers_ns.push_back(SystemClock::Get().NowNs() - begun_ns);
    if (interval_us > 0) WaitUs(interval_us);
    const int64_t committed_ns = SystemClock::Get().NowNs();
    HAVEN_RETURN_IF_ERROR(output.ReleaseOne());
    releases_ns.push_back(SystemClock::Get().NowNs() - committed_ns);
  }
  return absl::StrCat("requests=", output.counters().requests - requests,
                      Percentiles("barrier", barriers_ns), Percentiles("release", releases_ns),
                      " longest_held_ns=", output.counters().longest_held_ns);
}

std::string Describe(const OutputStats& stats) {
  return absl::StrCat("held_packets=", stats.held_packets, " held_bytes=", stats.held_bytes,
                      " released_packets=", stats.released_packets,
                      " dropped_packets=", stats.dropped_packets);
}

absl::StatusOr<std::string> CarryOut(PlugOutput& output, const std::vector<std::string>& words) {
  const std::string& command = words[0];
  absl::Status status = absl::InvalidArgumentError(absl::StrCat("unknown command ", command));
  int64_t count = 0;
  int64_t interval_us = 0;
  if (command == "hold") status = output.Hold();
  if (command == "barrier") status = output.Barrier();
  if (command == "release") status = output.ReleaseOne();
  if (command == "open") status = output.OpenAll();
  if (command == "rebuild") status = output.Rebuild();
  if (command == "discard") status = output.Discard();
  if (command == "remove") status = output.Remove();
  if (command == "health") status = output.Health();
  if (command == "stats") {
    const std::string stats = Describe(output.stats());
    return absl::StrCat(stats, " overtaken=", output.counters().overtaken);
  }
  if (command == "epochs" && words.size() == 3 && absl::SimpleAtoi(words[1], &count) && count > 0 &&
      absl::SimpleAtoi(words[2], &interval_us)) {
    return RunEpochs(output, count, interval_us);
  }
  HAVEN_RETURN_IF_ERROR(status);
  return std::string();
}

int Main(const std::vector<std::string>& words) {
  PlugSpec spec;
  uint32_t domid = 0;
  if (words.size() < 5 || !absl::SimpleAtoi(words[2], &spec.limit_bytes) ||
      !absl::SimpleAtoi(words[3], &domid)) {
    std::cerr << "usage: plug_check GROUP LIMIT_BYTES DOMID NIC...\n";
    return 2;
  }
  spec.group = words[1];
  // On emulated processors packets take their time; a script that looks at their order has it.
  spec.order_ns = spec.drain_ns;
  spec.domains.push_back(domid);
  spec.devices.assign(words.begin() + 4, words.end());
  absl::StatusOr<std::unique_ptr<PlugOutput>> output = PlugOutput::Attach(spec);
  if (!output.ok()) {
    std::cout << "error " << output.status() << std::endl;
    return 1;
  }
  std::cout << "ok" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<std::string> command = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (command.empty()) continue;
    const absl::StatusOr<std::string> answer = CarryOut(**output, command);
    if (answer.ok()) {
      std::cout << "ok " << *answer << std::endl;
    } else {
      std::cout << "error " << answer.status() << std::endl;
    }
  }
  return 0;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) { return haven::Main(std::vector<std::string>(argv, argv + argc)); }
