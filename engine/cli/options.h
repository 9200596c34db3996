// SPDX-License-Identifier: Apache-2.0
//
// The words behind a command: --name value, --name=value, --switch, and the rest.
#ifndef HAVEN_ENGINE_CLI_OPTIONS_H_
#define HAVEN_ENGINE_CLI_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// One option that a command knows.
struct OptionSpec {
  std::string name;      // Without the dashes.
  std::string argument;  // What stands for its value in --help; empty: a switch.
  std::string fallback;  // Value if it is not given; empty: none.
  std::string help;
};

class Options {
 public:
  // InvalidArgument names the word that is unknown, given twice, or lacks its value.
  static absl::StatusOr<Options> Parse(const std::vector<OptionSpec>& specs,
                                       const std::vector<std::string>& words);

  const std::vector<std::string>& positional() const { return positional_; }
  bool Has(const std::string& name) const { return given_.count(name) != 0; }
  // The value given, or the fallback.
  const std::string& Text(const std::string& name) const;

  // Each InvalidArgument names the option, its value and what is allowed.
  // A time with its unit, "25ms", "1.5s", "200us", within [low, high] nanoseconds.
  absl::StatusOr<int64_t> DurationNs(const std::string& name, int64_t low, int64_t high) const;
  // A size in bytes, with K, M or G (powers of 1024).
  absl::StatusOr<uint64_t> Bytes(const std::string& name, uint64_t low, uint64_t high) const;
  absl::StatusOr<uint64_t> Number(const std::string& name, uint64_t low, uint64_t high) const;

 private:
  std::map<std::string, std::string> given_;
  std::map<std::string, std::string> fallbacks_;
  std::vector<std::string> positional_;
};

// The options as lines for --help.
std::string DescribeOptions(const std::vector<OptionSpec>& specs);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_OPTIONS_H_
