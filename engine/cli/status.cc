// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/control/status_file.h"
#include "engine/control/status_json.h"
#include "engine/control/status_text.h"

namespace haven {

namespace {

absl::StatusOr<int> RunStatus(const Options& options) {
  const GroupDirectory directory(options.Text("directory"));
  std::vector<std::string> groups = options.positional();
  if (groups.empty()) {
    HAVEN_ASSIGN_OR_RETURN(groups, directory.Groups());
  }
  int code = kExitOk;
  std::string list;
  PrometheusText metrics;
  for (const std::string& group : groups) {
    HAVEN_RETURN_IF_ERROR(CheckName("group", group));
    const absl::StatusOr<StatusFile> file =
        ReadStatusFile(directory.StatusPath(group), SystemClock::Get());
    if (!file.ok()) {
      std::fprintf(stderr, "group %s: %s\n", group.c_str(),
                   std::string(file.status().message()).c_str());
      code = ExitOf(file.status());
      continue;
    }
    if (options.Has("json")) {
      absl::StrAppend(&list, list.empty() ? "" : ",\n",
                      StatusToJson(file->snapshot, file->reading));
    } else if (options.Has("prometheus")) {
      metrics.Add(file->snapshot, file->reading);
    } else {
      std::printf("%s", StatusToText(file->snapshot, file->reading).c_str());
    }
    if (options.Has("check") && (file->reading.stale || file->snapshot.state != "protected")) {
      code = kExitRefused;
    }
  }
  if (options.Has("json")) std::printf("[%s]\n", list.c_str());
  if (options.Has("prometheus")) std::printf("%s", metrics.Text().c_str());
  if (!groups.empty()) return code;
  std::fprintf(options.Has("json") || options.Has("prometheus") ? stderr : stdout,
               "nothing is protected here\n");
  return options.Has("check") ? kExitRefused : kExitOk;
}

}  // namespace

Command StatusCommand() {
  Command command;
  command.name = "status";
  command.synopsis = "[GROUP...]";
  command.help =
      "Shows what this node knows of its groups: state and reason, age of the last "
      "acknowledgement, phases\n"
      "of an epoch, register, output. `stale`: the process that wrote it has stopped doing so.";
  command.options = {
      DirectoryOption(),
      {"json", "", "", "one JSON array"},
      {"prometheus", "", "", "metrics in Prometheus' text format"},
      {"check", "", "", "exit code 4 unless there is a group and all are protected"}};
  command.run = RunStatus;
  return command;
}

}  // namespace haven
