// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks that replay traces have in common: their command line, and where results go.
#ifndef HAVEN_BENCH_CODEC_RESULTS_H_
#define HAVEN_BENCH_CODEC_RESULTS_H_

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/capture/page_trace.h"

namespace haven {

struct NamedTrace {
  std::string name;  // Of its file, without folder and ending.
  PageTrace trace;
};

struct BenchOutcome {
  nlohmann::json results;
  bool good = true;  // What is expected of the results holds.
};

// The main function of a benchmark:
//
//   NAME [--json=FILE] [its own flags] TRACE ...
//
// Reads the traces (checked) and writes the results of `run` to FILE. Returns the exit code: 0; 1:
// the outcome is not good, or FILE can not be written; 2: no trace is named.
int RunOnTraces(int argc, char** argv,
                const std::function<BenchOutcome(const std::vector<NamedTrace>&)>& run);

}  // namespace haven

#endif  // HAVEN_BENCH_CODEC_RESULTS_H_
