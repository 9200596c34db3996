// SPDX-License-Identifier: Apache-2.0
//
// Replays traces of real dirty pages (bench/traces, bench/capture) through the codec, step by step,
// and through what others use, side by side in one run:
//
//   codec_bench [--json=FILE] [--rounds=N] [--only=TEXT[,TEXT...]] TRACE ...
//   codec_bench --check TRACE ...
//
// bytes/page: what goes on the wire for each dirty page, with all headers. Encode GB/s: dirty bytes
// by the time of one core, BeginEpoch() and Acknowledge() included. Decode GB/s: dirty bytes by the
// time of decoding and writing to the replica. All methods are replayed in turn, round after round,
// in an order that is shuffled anew for each, as what came before leaves the caches as it likes;
// and for each epoch the shortest time counts, because other work on the machine only ever takes
// time away. General compressors get 64 pages at once, as our frames do; XBZRLE has every version
// before in its cache. All results of the codec are applied to a replica and compared with the
// trace.
//
// --check looks at bytes alone, which are the same on every machine, and ends with 1 where they are
// more than they may be (codec_check.h) or a replica is not what the trace says.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "bench/codec_cases.h"
#include "bench/codec_check.h"
#include "bench/codec_replay.h"
#include "bench/codec_results.h"
#include "engine/base/check.h"
#include "engine/codec/block_kernels.h"

ABSL_FLAG(uint32_t, rounds, 12, "how often each trace is replayed by each method");
ABSL_FLAG(std::vector<std::string>, only, {},
          "leave out the methods whose name holds none of these, which are set apart by commas");
ABSL_FLAG(bool, check, false, "compare bytes alone, and fail where they are too many");

namespace haven {
namespace {

using nlohmann::json;

void Report(const char* trace, const ReplayResult& result, json* results) {
  std::printf("%-10s %-22s %10.1f %8.2f %8.2f\n", trace, result.name.c_str(),
              result.bytes_per_page(), result.encode_gb_s(), result.decode_gb_s());
  results->push_back({{"trace", trace},
                      {"method", result.name},
                      {"bytes_per_page", result.bytes_per_page()},
                      {"encode_gb_s", result.encode_gb_s()},
                      {"decode_gb_s", result.decode_gb_s()}});
}

struct Method {
  std::string name;
  std::function<ReplayResult()> replay;
};

// Those that --only leaves, on a trace that outlives them.
std::vector<Method> MethodsFor(const PageTrace& trace) {
  std::vector<Method> methods;
  for (const Peer peer :
       {Peer::kRaw, Peer::kPlain, Peer::kXbzrle, Peer::kLz4, Peer::kIgzip, Peer::kZstd}) {
    methods.push_back({PeerName(peer), [&trace, peer] { return ReplayPeer(trace, peer); }});
  }
  for (CodecCase& one : AllCases()) {
    const std::string name = one.name;
    methods.push_back({name, [&trace, one = std::move(one)] { return ReplayCodec(trace, one); }});
  }
  const std::vector<std::string> only = absl::GetFlag(FLAGS_only);
  if (only.empty()) return methods;
  std::erase_if(methods, [&](const Method& method) {
    return std::ranges::none_of(
        only, [&](const std::string& text) { return absl::StrContains(method.name, text); });
  });
  return methods;
}

json RunTrace(const NamedTrace& named) {
  const auto& [name, trace] = named;
  const TraceFacts facts = LookAt(trace);
  std::printf(
      "%s: %s\n  %zu intervals, %llu dirty pages, %.1f %% of them with a version before; of "
      "these %.1f %% of the bytes unchanged; %.1f %% of all bytes zero; %.1f bytes a page are "
      "new\n",
      name.c_str(), trace.origin.c_str(), trace.epochs.size(),
      static_cast<unsigned long long>(facts.pages), 100 * facts.known_share,
      100 * facts.unchanged_share, 100 * facts.zero_share, facts.bound_bytes);
  std::vector<Method> methods = MethodsFor(trace);
  std::vector<ReplayResult> best(methods.size());
  std::vector<size_t> order(methods.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937 random(1);
  for (uint32_t round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    std::ranges::shuffle(order, random);
    for (const size_t at : order) {
      ReplayResult result = methods[at].replay();
      HAVEN_CHECK(result.equal) << name << ": " << methods[at].name;
      if (round > 0) result.KeepBest(best[at]);
      best[at] = std::move(result);
    }
  }
  json results = json::array();
  for (const ReplayResult& result : best) Report(name.c_str(), result, &results);
  return {{"trace", name},
          {"origin", trace.origin},
          {"pages", facts.pages},
          {"known_share", facts.known_share},
          {"unchanged_share", facts.unchanged_share},
          {"zero_share", facts.zero_share},
          {"bound_bytes", facts.bound_bytes},
          {"results", results}};
}

using Look = std::function<uint64_t(const std::byte*, const std::byte*)>;

// GB/s at which each of `looks` goes through pairs of pages, counting both versions. They take
// turns.
std::vector<double> ScanSpeeds(size_t bytes, const std::vector<Look>& looks) {
  const std::vector<std::byte> before(bytes, std::byte{1});
  const std::vector<std::byte> after(bytes, std::byte{1});
  std::vector<double> best(looks.size(), std::numeric_limits<double>::max());
  const size_t repeats = (size_t{256} << 20) / bytes;
  for (int round = 0; round < 12; ++round) {
    for (size_t i = 0; i < looks.size(); ++i) {
      const auto begin = std::chrono::steady_clock::now();
      for (size_t repeat = 0; repeat < repeats; ++repeat) {
        uint64_t changed = 0;
        for (size_t at = 0; at < bytes; at += kPageBytes) {
          changed |= looks[i](before.data() + at, after.data() + at);
        }
        HAVEN_CHECK_EQ(changed, 0u);
      }
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      best[i] = std::min(best[i], taken.count() / static_cast<double>(repeats));
    }
  }
  for (double& value : best) value = 2 * static_cast<double>(bytes) / value / 1e9;
  return best;
}

json CompareWithMemcmp() {
  const std::array<std::byte, HashKey::kBytes> secret{};
  const HashKey key{std::span(secret)};
  std::vector<Look> looks{[](const std::byte* before, const std::byte* after) {
    return static_cast<uint64_t>(std::memcmp(before, after, kPageBytes) != 0);
  }};
  const std::span<const BlockKernels* const> kernels = AvailableKernels();
  for (const BlockKernels* one : kernels) looks.emplace_back(one->changed_lines);
  for (const unsigned shift : {6u, 7u, 8u}) {
    looks.emplace_back([&key, shift](const std::byte*, const std::byte* after) {
      std::array<uint64_t, kMaxPageBlocks> hashes;
      key.Page(after, shift, hashes.data());
      return hashes[0] == 0 ? uint64_t{1} : uint64_t{0};
    });
  }
  json results = json::array();
  for (const size_t bytes : {size_t{256} << 10, size_t{8} << 20, size_t{128} << 20}) {
    const std::vector<double> speeds = ScanSpeeds(bytes, looks);
    std::printf("detection, 2 x %4zu KiB: memcmp %6.1f GB/s", bytes >> 10, speeds[0]);
    json row{{"kib", bytes >> 10}, {"memcmp_gb_s", speeds[0]}};
    for (size_t i = 0; i < kernels.size(); ++i) {
      std::printf(", %s %.1f (%.2f)", kernels[i]->name, speeds[i + 1], speeds[i + 1] / speeds[0]);
      row[kernels[i]->name] = speeds[i + 1];
    }
    for (size_t i = 0; i < 3; ++i) {
      // Only one version is read: counted as the one page that is looked at.
      const double speed = speeds[1 + kernels.size() + i] / 2;
      std::printf(", hash %zu %.1f", size_t{64} << i, speed);
      row["hash_" + std::to_string(size_t{64} << i)] = speed;
    }
    std::printf("\n");
    results.push_back(row);
  }
  return results;
}

BenchOutcome Check(const std::vector<NamedTrace>& traces) {
  BenchOutcome outcome;
  for (const NamedTrace& trace : traces) {
    if (!CheckTrace(trace.name, trace.trace)) outcome.good = false;
  }
  return outcome;
}

BenchOutcome Run(const std::vector<NamedTrace>& traces) {
  if (absl::GetFlag(FLAGS_check)) return Check(traces);
  BenchOutcome outcome;
  json& all = outcome.results;
  if (absl::GetFlag(FLAGS_only).empty()) all["detection"] = CompareWithMemcmp();
  for (const unsigned shift : {6u, 7u, 8u}) {
    const PageCodec codec({.page_counts = {1 << 18}, .block_shift = shift, .hashes = true});
    const double mib = static_cast<double>(codec.memory().hash_bytes) / (1 << 20);
    std::printf("hashes of 1 GiB of guest memory, blocks of %u: %.1f MiB\n", 1u << shift, mib);
    all["hash_mib_per_gib"].push_back(mib);
  }
  std::printf("%-10s %-22s %10s %8s %8s\n", "trace", "method", "bytes/page", "enc GB/s",
              "dec GB/s");
  for (const NamedTrace& trace : traces) all["traces"].push_back(RunTrace(trace));
  return outcome;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) { return haven::RunOnTraces(argc, argv, haven::Run); }
