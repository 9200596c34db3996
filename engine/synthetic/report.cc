// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/report.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr size_t kMaxReportBytes = 8192;
constexpr std::array<absl::string_view, 3> kVerdicts = {"not-checked", "equal", "different"};

using Fields = std::map<std::string, std::string>;

absl::Status Bad(absl::string_view key) {
  return absl::DataLossError(absl::StrCat("field '", key, "' is missing or not sound"));
}

template <typename T>
absl::Status GetNumber(const Fields& fields, const std::string& key, T& number) {
  const auto field = fields.find(key);
  if (field == fields.end() || !absl::SimpleAtoi(field->second, &number)) return Bad(key);
  return absl::OkStatus();
}

absl::StatusOr<SyntheticReport> ParseReport(const Fields& fields) {
  SyntheticReport report;
  for (const auto& [key, to] :
       {std::pair{"name", &report.name}, std::pair{"finding", &report.finding}}) {
    const auto field = fields.find(key);
    if (field == fields.end()) return Bad(key);
    *to = field->second;
  }
  const auto verdict = fields.find("verdict");
  size_t index = 0;
  while (index < kVerdicts.size() &&
         (verdict == fields.end() || kVerdicts[index] != verdict->second)) {
    ++index;
  }
  if (index == kVerdicts.size()) return Bad("verdict");
  report.verdict = static_cast<SyntheticReport::Verdict>(index);
  HAVEN_RETURN_IF_ERROR(GetNumber(fields, "generation", report.state.generation));
  HAVEN_RETURN_IF_ERROR(GetNumber(fields, "stops", report.state.stops));
  HAVEN_RETURN_IF_ERROR(GetNumber(fields, "next_sequence", report.state.next_sequence));
  for (uint32_t vcpu = 0; vcpu < kSyntheticMaxVcpus; ++vcpu) {
    VcpuState& state = report.state.vcpus[vcpu];
    HAVEN_RETURN_IF_ERROR(GetNumber(fields, absl::StrCat("writes.", vcpu), state.writes));
    HAVEN_RETURN_IF_ERROR(GetNumber(fields, absl::StrCat("checksum.", vcpu), state.checksum));
  }
  return report;
}

}  // namespace

absl::Status WriteSyntheticReport(const std::string& path, const SyntheticReport& report) {
  std::string text = absl::StrCat(
      "name=", report.name, "\nverdict=", kVerdicts[static_cast<size_t>(report.verdict)],
      "\nfinding=", absl::StrReplaceAll(report.finding, {{"\n", " "}}),
      "\ngeneration=", report.state.generation, "\nstops=", report.state.stops,
      "\nnext_sequence=", report.state.next_sequence, "\n");
  for (uint32_t vcpu = 0; vcpu < kSyntheticMaxVcpus; ++vcpu) {
    absl::StrAppend(&text, "writes.", vcpu, "=", report.state.vcpus[vcpu].writes, "\nchecksum.",
                    vcpu, "=", report.state.vcpus[vcpu].checksum, "\n");
  }
  const std::string temporary = absl::StrCat(path, ".tmp");
  const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("create ", temporary));
  const ssize_t written = write(fd.get(), text.data(), text.size());
  if (std::cmp_not_equal(written, text.size())) {
    unlink(temporary.c_str());
    return absl::ErrnoToStatus(written < 0 ? errno : ENOSPC, absl::StrCat("write ", temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("rename ", temporary, " to ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<SyntheticReport> ReadSyntheticReport(const std::string& path) {
  HAVEN_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxReportBytes));
  Fields fields;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> pair = absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (pair.size() != 2 || !fields.emplace(pair[0], pair[1]).second) {
      return absl::DataLossError(absl::StrCat(path, ": line '", line, "' is not a new key=value"));
    }
  }
  absl::StatusOr<SyntheticReport> report = ParseReport(fields);
  if (report.ok()) return report;
  return absl::DataLossError(absl::StrCat(path, ": ", report.status().message()));
}

}  // namespace haven
