// SPDX-License-Identifier: Apache-2.0
#include "bench/codec_results.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "engine/base/check.h"

ABSL_FLAG(std::string, json, "", "file for the results as JSON");

namespace haven {

int RunOnTraces(int argc, char** argv,
                const std::function<BenchOutcome(const std::vector<NamedTrace>&)>& run) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  const std::string program = std::filesystem::path(arguments.front()).filename();
  if (arguments.size() < 2) {
    std::fprintf(stderr, "%s: name at least one trace, as bench/traces/*.trace\n", program.c_str());
    return 2;
  }
  std::vector<NamedTrace> traces;
  for (size_t i = 1; i < arguments.size(); ++i) {
    absl::StatusOr<PageTrace> trace = ReadTrace(arguments[i]);
    HAVEN_CHECK_OK(trace);
    traces.push_back(
        {.name = std::filesystem::path(arguments[i]).stem(), .trace = *std::move(trace)});
  }
  const BenchOutcome outcome = run(traces);
  const int code = outcome.good ? 0 : 1;
  const std::string path = absl::GetFlag(FLAGS_json);
  if (path.empty()) return code;
  std::ofstream file(path);
  file << outcome.results.dump(2) << '\n';
  file.close();
  if (file) return code;
  std::fprintf(stderr, "%s: can not write %s\n", program.c_str(), path.c_str());
  return 1;
}

}  // namespace haven
