// SPDX-License-Identifier: Apache-2.0
#include "bench/codec_check.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "bench/codec_cases.h"
#include "engine/base/check.h"

namespace haven {
namespace {

// Traces of loads that write more than they read (bench/traces/README.md).
constexpr const char* kWriteHeavy[] = {"keyvalue", "database"};

const ReplayResult& Smallest(const std::vector<ReplayResult>& results) {
  HAVEN_CHECK(!results.empty());
  return *std::ranges::min_element(results, {}, &ReplayResult::wire_bytes);
}

std::string Describe(const ReplayResult& result) {
  return absl::StrCat(result.name, " ", result.wire_bytes, " bytes");
}

}  // namespace

std::vector<std::string> FindShortfalls(const CodecSizes& sizes) {
  std::vector<std::string> shortfalls;
  for (const ReplayResult& level : sizes.levels) {
    if (!level.equal) {
      shortfalls.push_back(absl::StrCat(level.name, ": the replica is not what the guest is"));
    }
  }
  const ReplayResult& peer = Smallest(sizes.peers);
  const ReplayResult& own = Smallest(sizes.levels);
  if (own.wire_bytes > peer.wire_bytes) {
    shortfalls.push_back(
        absl::StrCat("more bytes than the best peer: ", Describe(own), ", ", Describe(peer)));
  }
  if (sizes.write_heavy && own.wire_bytes * kWriteHeavyFactor > sizes.tracking.wire_bytes) {
    shortfalls.push_back(absl::StrCat("less than ", kWriteHeavyFactor,
                                      " times fewer bytes than page tracking: ", Describe(own),
                                      ", ", Describe(sizes.tracking)));
  }
  return shortfalls;
}

bool CheckTrace(const std::string& name, const PageTrace& trace) {
  CodecSizes sizes;
  sizes.tracking = ReplayPeer(trace, Peer::kPlain);
  for (const Peer peer : {Peer::kXbzrle, Peer::kLz4, Peer::kIgzip, Peer::kZstd}) {
    sizes.peers.push_back(ReplayPeer(trace, peer));
  }
  for (const CodecCase& level : LevelCases(kMinBlockShift)) {
    sizes.levels.push_back(ReplayCodec(trace, level));
  }
  sizes.write_heavy = std::ranges::find(kWriteHeavy, name) != std::end(kWriteHeavy);
  const std::vector<std::string> shortfalls = FindShortfalls(sizes);
  std::printf("%s: %s, best peer %s, page tracking %llu bytes, %llu pages\n", name.c_str(),
              Describe(Smallest(sizes.levels)).c_str(), Describe(Smallest(sizes.peers)).c_str(),
              static_cast<unsigned long long>(sizes.tracking.wire_bytes),
              static_cast<unsigned long long>(sizes.tracking.pages));
  for (const std::string& shortfall : shortfalls) {
    std::printf("%s: FAILED: %s\n", name.c_str(), shortfall.c_str());
  }
  return shortfalls.empty();
}

}  // namespace haven
