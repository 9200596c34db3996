// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/control/system_ids.h"
#include "engine/membership/arbiter_factory.h"

namespace haven {

namespace {

std::string HostName() {
  std::array<char, 64> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "node";
  return name.data();
}

constexpr int64_t kHourNs = 3600 * kNsPerSecond;

std::vector<OptionSpec> ProtectOptions() {
  return {
      DirectoryOption(),
      {"group", "NAME", "", "name of the group; the first guest's name if not given"},
      {"node", "NAME", "", "name of this node; the host's name if not given"},
      {"backup", "ADDRESS", "", "where the backup listens: unix:/PATH"},
      {"return-address", "ADDRESS", "",
       "where this node listens as a backup, to be one after a failover"},
      {"arbiter", "SPEC", "", absl::StrCat("who keeps the register: ", kArbiterSpecForms)},
      {"interval", "TIME", "50ms", "from the start of an epoch to the start of the next"},
      {"detect", "TIME", "100ms", "silence on every path before the arbiter is asked"},
      {"rearm", "TIME", "2s", "time without a link that carries epochs before solo is asked for"},
      {"pause-budget", "TIME", "2s",
       "guests stopped for somebody's answer before solo is asked for"},
      {"epoch-bytes", "SIZE", "256M",
       "largest epoch; staging here and twice that much journal there"},
      {"copy-threads", "N", "1", "threads that copy pages beside the engine's own"},
  };
}

absl::StatusOr<GroupRecord> MakeRecord(const Options& options) {
  GroupRecord record;
  record.group = options.Text("group");
  const std::string node = options.Has("node") ? options.Text("node") : HostName();
  HAVEN_RETURN_IF_ERROR(CheckName("--node", node));
  if (node.size() > 46) return absl::InvalidArgumentError("--node: at most 46 characters");
  SystemIds ids;
  record.owner = absl::StrFormat("%s.%016x", node, ids.NextId());
  record.backup_address = options.Text("backup");
  record.return_address = options.Text("return-address");
  record.arbiter = options.Text("arbiter");
  if (record.backup_address.empty()) {
    return absl::InvalidArgumentError("--backup is needed: where does the backup listen?");
  }
  if (record.arbiter.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--arbiter is needed: who decides which copy runs? ", kArbiterSpecForms));
  }
  HAVEN_RETURN_IF_ERROR(MakeArbiter(record.arbiter).status());
  HAVEN_ASSIGN_OR_RETURN(const int64_t interval, options.DurationNs("interval", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const int64_t detect, options.DurationNs("detect", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const int64_t rearm, options.DurationNs("rearm", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const int64_t pause,
                         options.DurationNs("pause-budget", kNsPerMs, kHourNs));
  record.interval_us = interval / kNsPerUs;
  record.detect_us = detect / kNsPerUs;
  record.rearm_us = rearm / kNsPerUs;
  record.pause_budget_us = pause / kNsPerUs;
  HAVEN_ASSIGN_OR_RETURN(record.journal_bytes,
                         options.Bytes("epoch-bytes", uint64_t{1} << 20, uint64_t{1} << 38));
  HAVEN_ASSIGN_OR_RETURN(const uint64_t threads, options.Number("copy-threads", 0, 64));
  record.copy_threads = static_cast<uint32_t>(threads);
  return record;
}

absl::StatusOr<int> RunProtect(const Options& options) {
  if (options.positional().empty()) {
    return absl::InvalidArgumentError("name at least one guest, as synthetic:name=g1,mem=1G");
  }
  HAVEN_ASSIGN_OR_RETURN(GroupRecord record, MakeRecord(options));
  const GroupDirectory directory(options.Text("directory"));
  HAVEN_RETURN_IF_ERROR(directory.Ensure());
  if (!record.group.empty()) HAVEN_RETURN_IF_ERROR(CheckName("--group", record.group));
  HAVEN_ASSIGN_OR_RETURN(record.guests, EnsureGuests(directory, options.positional()));
  if (record.group.empty()) {
    record.group = record.guests.front().substr(record.guests.front().find(':') + 1);
  }
  {
    HAVEN_ASSIGN_OR_RETURN(const UniqueFd lock, directory.Lock(record.group));
    const absl::StatusOr<GroupRecord> old = directory.Load(record.group);
    if (old.ok()) {
      // A copy that was protected here before its guard ended: it keeps its name in the register.
      record.owner = old->owner;
      record.phase = old->phase;
      if (old->guests != record.guests) {
        return absl::FailedPreconditionError(absl::StrCat(
            "group ", record.group, " is known here with other guests; unprotect it first"));
      }
    } else if (!absl::IsNotFound(old.status())) {
      return old.status();
    }
    HAVEN_RETURN_IF_ERROR(directory.Save(record));
  }
  return RunGuard(directory, record.group);
}

absl::StatusOr<int> RunGuardCommand(const Options& options) {
  if (options.positional().size() != 1) return absl::InvalidArgumentError("name one group");
  return RunGuard(GroupDirectory(options.Text("directory")), options.positional().front());
}

}  // namespace

Command ProtectCommand() {
  Command command;
  command.name = "protect";
  command.synopsis = "GUEST... --backup ADDRESS --arbiter SPEC";
  command.help =
      "Protects a group of guests and stays in the foreground as its guard, until the group is\n"
      "unprotected, its guests end, or another copy has taken over. If this process dies the "
      "output\n"
      "stays held; start it again (or `guard GROUP`), and it goes on.\n"
      "A guest is synthetic:KEY=VALUE,...; one that does not exist yet is started.";
  command.options = ProtectOptions();
  command.run = RunProtect;
  return command;
}

Command GuardCommand() {
  Command command;
  command.name = "guard";
  command.synopsis = "GROUP";
  command.help =
      "Takes up a group that was protected here before: what a service manager runs after a crash.";
  command.options = {DirectoryOption()};
  command.run = RunGuardCommand;
  return command;
}

}  // namespace haven
