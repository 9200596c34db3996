// SPDX-License-Identifier: Apache-2.0
//
// What has to be true of the codec on every machine: bytes alone, and what the replica becomes.
#ifndef HAVEN_BENCH_CODEC_CHECK_H_
#define HAVEN_BENCH_CODEC_CHECK_H_

#include <string>
#include <vector>

#include "bench/capture/page_trace.h"
#include "bench/codec_replay.h"

namespace haven {

// Of one trace.
struct CodecSizes {
  ReplayResult tracking;             // Page tracking without a codec.
  std::vector<ReplayResult> peers;   // What others would send; at least one.
  std::vector<ReplayResult> levels;  // What the engine would, one for each level; at least one.
  bool write_heavy = false;          // Targets are higher.
};

// Times fewer bytes than page tracking that a write-heavy load has to need.
inline constexpr uint64_t kWriteHeavyFactor = 3;

// What falls short, a line each: a level whose replica is not the guest; no level with at most the
// bytes of the best peer; on a write-heavy load no level with so many times fewer bytes than page
// tracking.
std::vector<std::string> FindShortfalls(const CodecSizes& sizes);

// Replays a trace, prints a line of what it takes and one for each shortfall. True: there is none.
bool CheckTrace(const std::string& name, const PageTrace& trace);

}  // namespace haven

#endif  // HAVEN_BENCH_CODEC_CHECK_H_
