// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/cli/register_changes.h"
#include "engine/cli/transports.h"
#include "engine/control/guard.h"
#include "engine/membership/arbiter_factory.h"

namespace haven {

namespace {

constexpr int64_t kHourNs = 3600 * kNsPerSecond;

// Guests that belong to this command alone until they are kept: else they are shut down again.
class StartedGuests {
 public:
  explicit StartedGuests(const GroupDirectory& directory) : directory_(directory) {}
  ~StartedGuests() {
    for (const std::string& guest : names_) {
      const absl::Status ended = ShutDownGuest(directory_, guest);
      HAVEN_LOG(kWarning, "protect")
          << guest << ", which was started for this, "
          << (ended.ok() ? "is shut down again" : "can not be shut down again: ")
          << std::string(ended.message());
    }
  }
  StartedGuests(const StartedGuests&) = delete;
  StartedGuests& operator=(const StartedGuests&) = delete;

  std::vector<std::string>* names() { return &names_; }
  void Keep() { names_.clear(); }

 private:
  const GroupDirectory& directory_;
  std::vector<std::string> names_;
};

std::vector<OptionSpec> ProtectOptions() {
  std::vector<OptionSpec> options = {
      DirectoryOption(),
      {"group", "NAME", "", "name of the group; the first guest's name if not given"},
      {"node", "NAME", "", "name of this node; the host's name if not given"},
      {"backup", "ADDRESS", "", absl::StrCat("where the backup listens: ", kAddressForms)},
      {"return-address", "ADDRESS", "",
       "where this node listens as a backup, to be one after a failover"},
      {"arbiter", "SPEC", "", absl::StrCat("who keeps the register: ", kArbiterSpecForms)},
      {"interval", "TIME", "50ms", "from the start of an epoch to the start of the next"},
      {"detect", "TIME", "100ms", "silence on every path before the arbiter is asked"},
      {"epoch-bytes", "SIZE", "256M",
       "largest epoch; staging here and twice that much journal there"},
      {"unsafe-disk", "", "",
       "for xen: protect guests with writable disks, which are not part of an epoch"},
      {"take-over", "", "",
       "take the group's name over from another node where its protection has ended. Only when its "
       "guests do not run there any more: they have moved here, or are gone"},
      {"json", "", "",
       "on stdout, a line each: the status while the memory is copied and what came of it, and how "
       "it has ended, errors too"},
  };
  for (OptionSpec& option : CredentialSpecs()) options.push_back(std::move(option));
  for (OptionSpec& option : PolicyOptions()) options.push_back(std::move(option));
  return options;
}

absl::StatusOr<GroupRecord> MakeRecord(const Options& options) {
  GroupRecord record;
  record.group = options.Text("group");
  HAVEN_ASSIGN_OR_RETURN(const std::string node, NodeName(options));
  record.owner = NewOwner(node);
  record.backup_address = options.Text("backup");
  record.return_address = options.Text("return-address");
  ReadCredentials(options, &record);
  record.arbiter = options.Text("arbiter");
  if (record.backup_address.empty()) {
    return absl::InvalidArgumentError("--backup is needed: where does the backup listen?");
  }
  if (record.arbiter.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--arbiter is needed: who decides which copy runs? ", kArbiterSpecForms));
  }
  HAVEN_RETURN_IF_ERROR(CheckAddress("--backup", record.backup_address));
  HAVEN_RETURN_IF_ERROR(MakeTransport(record.backup_address, record).status());
  if (!record.return_address.empty()) {
    HAVEN_RETURN_IF_ERROR(CheckAddress("--return-address", record.return_address));
  }
  HAVEN_RETURN_IF_ERROR(MakeArbiter(record.arbiter).status());
  HAVEN_ASSIGN_OR_RETURN(const int64_t interval, options.DurationNs("interval", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const int64_t detect, options.DurationNs("detect", kNsPerMs, kHourNs));
  record.interval_us = interval / kNsPerUs;
  record.detect_us = detect / kNsPerUs;
  HAVEN_RETURN_IF_ERROR(ReadPolicy(options, &record));
  if (record.heartbeat_us > record.detect_us / 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--heartbeat ", options.Text("heartbeat"), ": more than a third of --detect ",
        options.Text("detect"), ": two that are lost would be taken for the other side's death"));
  }
  record.unsafe_disk = options.Has("unsafe-disk");
  HAVEN_ASSIGN_OR_RETURN(record.journal_bytes,
                         options.Bytes("epoch-bytes", uint64_t{1} << 20, uint64_t{1} << 38));
  HAVEN_ASSIGN_OR_RETURN(record.guests, NameGuests(options.positional()));
  if (record.group.empty()) {
    record.group = record.guests.front().substr(record.guests.front().find(':') + 1);
  }
  HAVEN_RETURN_IF_ERROR(CheckName("--group", record.group));
  HAVEN_RETURN_IF_ERROR(CheckGroupRecord(record));
  return record;
}

absl::StatusOr<std::vector<std::string>> MissingGuests(const GroupDirectory& directory,
                                                       const GroupRecord& record) {
  std::vector<std::string> missing;
  for (const std::string& guest : record.guests) {
    HAVEN_ASSIGN_OR_RETURN(const bool exists, GuestExists(directory, guest));
    if (!exists) missing.push_back(guest);
  }
  return missing;
}

// A guest has one protection: a second engine would steal its dirty log.
absl::Status InNoOtherGroup(const GroupDirectory& directory, const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> groups, directory.Groups());
  for (const std::string& group : groups) {
    // One that can not be read is its own guard's matter, and holds its guests if it lives.
    const absl::StatusOr<GroupRecord> other = directory.Load(group);
    if (group == record.group || !other.ok()) continue;
    for (const std::string& guest : record.guests) {
      if (std::find(other->guests.begin(), other->guests.end(), guest) == other->guests.end()) {
        continue;
      }
      return absl::FailedPreconditionError(absl::StrCat(
          "guest ", guest, " belongs to group ", group, ", which is or was protected here: ",
          "`haven-engine unprotect ", group, "` first, or protect all of its guests as one group"));
    }
  }
  return absl::OkStatus();
}

// A copy that was protected here before its guard ended: it keeps its name in the register, and no
// blank guest is started in place of one that was protected.
absl::Status TakeUp(const GroupDirectory& directory, const GroupRecord& old, GroupRecord* record) {
  record->owner = old.owner;
  record->phase = old.phase;
  if (old.guests != record->guests) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", record->group, " is known here with other guests, ",
                     absl::StrJoin(old.guests, " "), ": unprotect it first"));
  }
  if (old.phase == GroupPhase::kEnding) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", record->group, " is being unprotected: `haven-engine guard ",
                     record->group, "` finishes that; protect it again afterwards"));
  }
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> missing, MissingGuests(directory, *record));
  if (missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "group ", record->group, " was protected here, and its guests ", absl::StrJoin(missing, " "),
      " do not exist any more: `haven-engine guard ", record->group,
      "` settles with the arbiter what becomes of the group; no blank guest is started instead"));
}

// Whether guests may be started for a group that this node knows nothing of: another copy of them
// may run elsewhere.
absl::Status MayStartGuests(const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const std::optional<Register> current, ReadRegister(record));
  if (!current.has_value()) return absl::OkStatus();
  if (current->mode == RegisterMode::kNone && NodeOf(current->owner) == NodeOf(record.owner)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "group ", record.group, " belongs to ", FormatRegister(*current),
      ", and a copy may run there, so no guest is started here: ", OwnedElsewhere(*current)));
}

absl::StatusOr<int> RunProtect(const Options& options) {
  if (options.positional().empty()) {
    return absl::InvalidArgumentError("name at least one guest, as xen:web1");
  }
  HAVEN_ASSIGN_OR_RETURN(GroupRecord record, MakeRecord(options));
  const GroupDirectory directory(options.Text("directory"));
  HAVEN_RETURN_IF_ERROR(directory.Ensure());
  HAVEN_ASSIGN_OR_RETURN(UniqueFd lock, directory.Lock(record.group));
  HAVEN_RETURN_IF_ERROR(InNoOtherGroup(directory, record));
  StartedGuests started(directory);
  const absl::StatusOr<GroupRecord> old = directory.Load(record.group);
  if (old.ok()) {
    if (options.Has("take-over") && old->phase != GroupPhase::kNew) {
      return absl::FailedPreconditionError(
          absl::StrCat("group ", record.group,
                       ": a copy that was protected here is no new one: without "
                       "--take-over it goes on, or `haven-engine guard ",
                       record.group, "` settles with the arbiter what becomes of it"));
    }
    HAVEN_RETURN_IF_ERROR(TakeUp(directory, *old, &record));
    if (options.Has("take-over")) HAVEN_RETURN_IF_ERROR(TakeOverRegister(record));
  } else if (absl::IsNotFound(old.status())) {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                           MissingGuests(directory, record));
    if (options.Has("take-over")) HAVEN_RETURN_IF_ERROR(TakeOverRegister(record));
    if (!missing.empty()) HAVEN_RETURN_IF_ERROR(MayStartGuests(record));
    HAVEN_RETURN_IF_ERROR(EnsureGuests(directory, options.positional(),
                                       {.unsafe_disk = options.Has("unsafe-disk")},
                                       started.names()));
  } else {
    return old.status();
  }
  HAVEN_RETURN_IF_ERROR(directory.Save(record));
  const absl::StatusOr<GuardOutcome> outcome =
      RunGuard(directory, record.group, std::move(lock),
               options.Has("json") ? ProgressForm::kJson : ProgressForm::kText);
  // Refused: they are nobody's copy of the group.
  if (!outcome.ok() || outcome->exit_code != kExitRefused) started.Keep();
  if (!outcome.ok()) return outcome.status();
  return TellOutcome(options, record.group, *outcome);
}

// Waits until there is a copy of the group here that nobody drives, and takes its lock. Nothing: a
// signal came first. Another process' lock announces its end to nobody, so it is looked at again.
absl::StatusOr<std::optional<UniqueFd>> WaitForGroup(const GroupDirectory& directory,
                                                     const std::string& group) {
  constexpr int kLookAgainMs = 250;
  HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
  const UniqueFd stop(stop_fd);
  HAVEN_RETURN_IF_ERROR(directory.Ensure());
  for (;;) {
    if (directory.Exists(group)) {
      absl::StatusOr<UniqueFd> lock = directory.Lock(group);
      if (!lock.ok() && !absl::IsFailedPrecondition(lock.status())) return lock.status();
      if (lock.ok() && directory.Exists(group)) return *std::move(lock);
    }
    pollfd signalled = {stop.get(), POLLIN, 0};
    if (poll(&signalled, 1, kLookAgainMs) > 0) return std::nullopt;
  }
}

absl::StatusOr<int> RunGuardCommand(const Options& options) {
  if (options.positional().size() != 1) return absl::InvalidArgumentError("name one group");
  const std::string& group = options.positional().front();
  HAVEN_RETURN_IF_ERROR(CheckName("group", group));
  const GroupDirectory directory(options.Text("directory"));
  if (options.Has("wait")) {
    HAVEN_ASSIGN_OR_RETURN(std::optional<UniqueFd> lock, WaitForGroup(directory, group));
    if (!lock.has_value()) return kExitOk;
    HAVEN_ASSIGN_OR_RETURN(const GuardOutcome outcome,
                           RunGuard(directory, group, *std::move(lock), std::nullopt));
    return TellOutcome(options, group, outcome);
  }
  HAVEN_ASSIGN_OR_RETURN(UniqueFd lock, directory.Lock(group));
  if (options.Has("create-register")) {
    HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, directory.Load(group));
    HAVEN_RETURN_IF_ERROR(CreateRegister(directory, record));
  }
  HAVEN_ASSIGN_OR_RETURN(const GuardOutcome outcome,
                         RunGuard(directory, group, std::move(lock), std::nullopt));
  return TellOutcome(options, group, outcome);
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
      "A guest is xen:NAME, which runs here, or synthetic:KEY=VALUE,..., which is started if it "
      "does\nnot exist yet.";
  command.options = ProtectOptions();
  command.run = RunProtect;
  return command;
}

Command GuardCommand() {
  Command command;
  command.name = "guard";
  command.synopsis = "[--wait | --create-register] GROUP";
  command.help =
      "Takes up a group that was protected here before: what a service manager runs after a crash.";
  command.options = {
      DirectoryOption(),
      {"json", "", "", "how it has ended as one JSON object, errors too"},
      {"wait", "", "",
       "first wait, for as long as it takes, until there is a copy of the group here that no "
       "process "
       "drives: one to be taken up after a crash, whoever drove it"},
      {"create-register", "", "",
       "first create the group's register anew, after it was lost or removed as damaged. Only when "
       "you know that no other copy of the group runs anywhere: else two run from then on"}};
  command.run = RunGuardCommand;
  return command;
}

}  // namespace haven
