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

// The main function of a benchmark:
//
//   NAME [--json=FILE] [its own flags] TRACE ...
//
// Reads the traces (checked) and writes what `run` makes of them to FILE. Returns the exit code.
int RunOnTraces(int argc, char** argv,
                const std::function<nlohmann::json(const std::vector<NamedTrace>&)>& run);

}  // namespace haven

#endif  // HAVEN_BENCH_CODEC_RESULTS_H_
