// SPDX-License-Identifier: Apache-2.0
//
// Input: the words behind a command, one a line.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "engine/cli/options.h"

namespace haven {
namespace {

void RunOne(absl::string_view input) {
  const std::vector<OptionSpec> specs = {{"time", "TIME", "1s", ""},
                                         {"size", "SIZE", "1M", ""},
                                         {"count", "N", "1", ""},
                                         {"json", "", "", ""}};
  const std::vector<std::string> words = absl::StrSplit(input, '\n');
  const absl::StatusOr<Options> parsed = Options::Parse(specs, words);
  if (!parsed.ok()) return;
  const absl::StatusOr<int64_t> time = parsed->DurationNs("time", 5, 1'000'000'000'000);
  HAVEN_CHECK(!time.ok() || (*time >= 5 && *time <= 1'000'000'000'000));
  const absl::StatusOr<uint64_t> size = parsed->Bytes("size", 5, uint64_t{1} << 40);
  HAVEN_CHECK(!size.ok() || (*size >= 5 && *size <= uint64_t{1} << 40));
  const absl::StatusOr<uint64_t> count = parsed->Number("count", 5, 64);
  HAVEN_CHECK(!count.ok() || (*count >= 5 && *count <= 64));
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
