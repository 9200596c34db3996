// SPDX-License-Identifier: Apache-2.0
//
// Replays traces of real dirty pages (bench/traces, bench/capture) through the codec, step by step,
// and through what others use, side by side in one run:
//
//   codec_bench [--json=FILE] [--min_ms=N] TRACE ...
//
// bytes/page: what goes on the wire for each dirty page, with all headers. Encode GB/s: dirty bytes
// by the time of one core, BeginEpoch() and Acknowledge() included. Decode GB/s: dirty bytes by the
// time of decoding and writing to the replica. Each is the best of several replays, because other
// work on the machine only ever takes time away. General compressors get 64 pages at once, as our
// frames do; XBZRLE has every version before in its cache. All results of the codec are applied to
// a replica and compared with the trace.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "bench/capture/page_trace.h"
#include "bench/codec_replay.h"
#include "engine/base/check.h"
#include "engine/codec/block_kernels.h"

ABSL_FLAG(std::string, json, "", "file for the results as JSON");
ABSL_FLAG(uint32_t, min_ms, 200, "least time of each measurement, in milliseconds");

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

std::vector<CodecCase> Cases() {
  std::vector<CodecCase> cases;
  for (const unsigned shift : {6u, 7u, 8u}) {
    const std::string size = std::to_string(1u << shift);
    const CodecSettings blocks{.byte_runs = false, .sharing = false};
    cases.push_back({"hash " + size, shift, false, blocks});
    cases.push_back({"fgbi " + size, shift, true, blocks});
    CodecSettings sharing = blocks;
    sharing.sharing = true;
    cases.push_back({"fgbi+share " + size, shift, true, sharing});
    for (const Compression method :
         {Compression::kLz4, Compression::kDeflate, Compression::kZstd}) {
      CodecSettings compressed = blocks;
      compressed.compression = method;
      cases.push_back(
          {std::string("fgbi+") + CompressionName(method) + " " + size, shift, true, compressed});
    }
    CodecSettings runs = blocks;
    runs.byte_runs = true;
    cases.push_back({"fgbi+runs " + size, shift, true, runs});
    for (const Compression method :
         {Compression::kNone, Compression::kLz4, Compression::kDeflate, Compression::kZstd}) {
      cases.push_back({std::string("all ") + CompressionName(method) + " " + size,
                       shift,
                       true,
                       {.compression = method}});
    }
  }
  return cases;
}

json RunTrace(const std::string& path) {
  absl::StatusOr<PageTrace> trace = ReadTrace(path);
  HAVEN_CHECK_OK(trace);
  std::string name = path.substr(path.rfind('/') + 1);
  name = name.substr(0, name.find('.'));
  const TraceFacts facts = LookAt(*trace);
  std::printf(
      "%s: %s\n  %zu intervals, %llu dirty pages, %.1f %% of them with a version before; of "
      "these %.1f %% of the bytes unchanged; %.1f %% of all bytes zero\n",
      name.c_str(), trace->origin.c_str(), trace->epochs.size(),
      static_cast<unsigned long long>(facts.pages), 100 * facts.known_share,
      100 * facts.unchanged_share, 100 * facts.zero_share);
  json results = json::array();
  const std::chrono::milliseconds least(absl::GetFlag(FLAGS_min_ms));
  for (const Peer peer :
       {Peer::kRaw, Peer::kPlain, Peer::kXbzrle, Peer::kLz4, Peer::kDeflate, Peer::kZstd}) {
    Report(name.c_str(), ReplayPeer(*trace, peer, least), &results);
  }
  for (const CodecCase& one : Cases()) {
    Report(name.c_str(), ReplayCodec(*trace, one, least), &results);
  }
  return {{"trace", name},
          {"origin", trace->origin},
          {"pages", facts.pages},
          {"known_share", facts.known_share},
          {"unchanged_share", facts.unchanged_share},
          {"zero_share", facts.zero_share},
          {"results", results}};
}

// GB/s at which `look` goes through pairs of pages, counting both versions.
double ScanSpeed(size_t bytes,
                 const std::function<uint64_t(const std::byte*, const std::byte*)>& look) {
  const std::vector<std::byte> before(bytes, std::byte{1});
  const std::vector<std::byte> after(bytes, std::byte{1});
  double best = std::numeric_limits<double>::max();
  for (int round = 0; round < 12; ++round) {
    const size_t repeats = (size_t{256} << 20) / bytes;
    const auto begin = std::chrono::steady_clock::now();
    for (size_t repeat = 0; repeat < repeats; ++repeat) {
      uint64_t changed = 0;
      for (size_t at = 0; at < bytes; at += kPageBytes) {
        changed |= look(before.data() + at, after.data() + at);
      }
      HAVEN_CHECK_EQ(changed, 0u);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    best = std::min(best, taken.count() / static_cast<double>(repeats));
  }
  return 2 * static_cast<double>(bytes) / best / 1e9;
}

json CompareWithMemcmp() {
  json results = json::array();
  const std::array<std::byte, HashKey::kBytes> secret{};
  const HashKey key{std::span(secret)};
  for (const size_t bytes : {size_t{256} << 10, size_t{8} << 20, size_t{128} << 20}) {
    const double limit = ScanSpeed(bytes, [](const std::byte* before, const std::byte* after) {
      return static_cast<uint64_t>(std::memcmp(before, after, kPageBytes) != 0);
    });
    std::printf("detection, 2 x %4zu KiB: memcmp %6.1f GB/s", bytes >> 10, limit);
    json row{{"kib", bytes >> 10}, {"memcmp_gb_s", limit}};
    for (const BlockKernels* kernels : AvailableKernels()) {
      const double speed = ScanSpeed(bytes, kernels->changed_lines);
      std::printf(", %s %.1f (%.2f)", kernels->name, speed, speed / limit);
      row[kernels->name] = speed;
    }
    for (const unsigned shift : {6u, 7u, 8u}) {
      std::array<uint64_t, kMaxPageBlocks> hashes;
      // Only one version is read: counted as the one page that is looked at.
      const double speed = ScanSpeed(bytes,
                                     [&](const std::byte*, const std::byte* after) {
                                       key.Page(after, shift, hashes.data());
                                       return hashes[0] == 0 ? uint64_t{1} : uint64_t{0};
                                     }) /
                           2;
      std::printf(", hash %u %.1f", 1u << shift, speed);
      row["hash_" + std::to_string(1u << shift)] = speed;
    }
    std::printf("\n");
    results.push_back(row);
  }
  return results;
}

int Run(const std::vector<char*>& traces) {
  if (traces.empty()) {
    std::fprintf(stderr, "codec_bench: name at least one trace, for example bench/traces/*\n");
    return 2;
  }
  json all;
  all["detection"] = CompareWithMemcmp();
  for (const unsigned shift : {6u, 7u, 8u}) {
    const PageCodec codec({.page_counts = {1 << 18}, .block_shift = shift, .hashes = true},
                          HashKey(std::array<std::byte, HashKey::kBytes>{}));
    const double mib = static_cast<double>(codec.memory().hash_bytes) / (1 << 20);
    std::printf("hashes of 1 GiB of guest memory, blocks of %u: %.1f MiB\n", 1u << shift, mib);
    all["hash_mib_per_gib"].push_back(mib);
  }
  std::printf("%-10s %-22s %10s %8s %8s\n", "trace", "method", "bytes/page", "enc GB/s",
              "dec GB/s");
  for (const char* path : traces) all["traces"].push_back(RunTrace(path));
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    std::ofstream file(path);
    file << all.dump(2) << '\n';
    file.close();
    if (!file) {
      std::fprintf(stderr, "codec_bench: can not write %s\n", path.c_str());
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
