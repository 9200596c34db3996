// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/options.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "engine/base/check.h"

namespace haven {

absl::StatusOr<Options> Options::Parse(const std::vector<OptionSpec>& specs,
                                       const std::vector<std::string>& words) {
  Options options;
  for (const OptionSpec& spec : specs) options.fallbacks_[spec.name] = spec.fallback;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!absl::StartsWith(word, "--")) {
      options.positional_.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto spec = std::find_if(specs.begin(), specs.end(),
                                   [&](const OptionSpec& one) { return one.name == name; });
    if (spec == specs.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no option --", name, " here; --help names those that there are"));
    }
    if (options.given_.count(name) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is given twice"));
    }
    if (spec->argument.empty()) {
      if (equals != std::string::npos) {
        return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      }
      options.given_[name] = "yes";
    } else if (equals != std::string::npos) {
      options.given_[name] = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      options.given_[name] = words[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " needs a value: ", spec->argument));
    }
  }
  return options;
}

const std::string& Options::Text(const std::string& name) const {
  const auto given = given_.find(name);
  if (given != given_.end()) return given->second;
  const auto fallback = fallbacks_.find(name);
  HAVEN_CHECK(fallback != fallbacks_.end()) << "no option " << name;
  return fallback->second;
}

absl::StatusOr<int64_t> Options::DurationNs(const std::string& name, int64_t low,
                                            int64_t high) const {
  absl::Duration value;
  const std::string& text = Text(name);
  if (!absl::ParseDuration(text, &value) || value < absl::Nanoseconds(low) ||
      value > absl::Nanoseconds(high)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, " ", text, ": a time with its unit from ",
                     absl::FormatDuration(absl::Nanoseconds(low)), " to ",
                     absl::FormatDuration(absl::Nanoseconds(high)), " is wanted, as 25ms or 1.5s"));
  }
  return absl::ToInt64Nanoseconds(value);
}

absl::StatusOr<uint64_t> Options::Bytes(const std::string& name, uint64_t low,
                                        uint64_t high) const {
  absl::string_view digits = Text(name);
  unsigned shift = 0;
  if (absl::EndsWith(digits, "K")) shift = 10;
  if (absl::EndsWith(digits, "M")) shift = 20;
  if (absl::EndsWith(digits, "G")) shift = 30;
  if (shift != 0) digits.remove_suffix(1);
  uint64_t value = 0;
  if (!absl::SimpleAtoi(digits, &value) || value > (UINT64_MAX >> shift) ||
      (value << shift) < low || (value << shift) > high) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, " ", Text(name), ": a size from ",
                                                   low, " to ", high,
                                                   " bytes is wanted, as 64M or 1G"));
  }
  return value << shift;
}

absl::StatusOr<uint64_t> Options::Number(const std::string& name, uint64_t low,
                                         uint64_t high) const {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(Text(name), &value) || value < low || value > high) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, " ", Text(name), ": a number from ",
                                                   low, " to ", high, " is wanted"));
  }
  return value;
}

std::string DescribeOptions(const std::vector<OptionSpec>& specs) {
  std::string text;
  for (const OptionSpec& spec : specs) {
    const std::string left = spec.argument.empty()
                                 ? absl::StrCat("--", spec.name)
                                 : absl::StrCat("--", spec.name, " ", spec.argument);
    absl::StrAppendFormat(&text, "  %-26s %s", left, spec.help);
    if (!spec.fallback.empty()) absl::StrAppend(&text, " (", spec.fallback, ")");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace haven
