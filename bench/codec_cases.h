// SPDX-License-Identifier: Apache-2.0
//
// What codec_bench measures of the codec.
#ifndef HAVEN_BENCH_CODEC_CASES_H_
#define HAVEN_BENCH_CODEC_CASES_H_

#include <vector>

#include "bench/codec_replay.h"

namespace haven {

// The levels of the policy, as the engine has them, with blocks of 1 << shift bytes: "level NAME
// SIZE".
std::vector<CodecCase> LevelCases(unsigned shift);

// The steps of the papers' ablation, as the engine's modes have them ("MODE SIZE", and "hash SIZE"
// for FGBI by hashes), the levels, and steps that are part of a mode or lack a part of it.
std::vector<CodecCase> AllCases();

}  // namespace haven

#endif  // HAVEN_BENCH_CODEC_CASES_H_
