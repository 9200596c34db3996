// SPDX-License-Identifier: Apache-2.0
//
// Commands for a group that is being driven, and for synthetic guests and manual arbiters.
#include <poll.h>

#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/cli/answer.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/codec/codec_mode.h"
#include "engine/control/command_server.h"
#include "engine/membership/arbiter_manual_answers.h"
#include "engine/membership/arbiter_manual_request.h"
#include "engine/synthetic/operator.h"

namespace haven {

namespace {

constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);

absl::Status Send(const Options& options, const std::string& name, const std::string& argument) {
  const GroupDirectory directory(options.Text("directory"));
  const std::string& group = options.positional().front();
  HAVEN_RETURN_IF_ERROR(CheckName("group", group));
  const absl::Status status =
      SendCommand(directory.CommandPath(group), {name, argument}, kAnswerTimeout);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("group ", group, ": ", status.message()));
}

absl::Status NeedWords(const Options& options, size_t count, const char* what) {
  if (options.positional().size() == count) return absl::OkStatus();
  return absl::InvalidArgumentError(what);
}

// Until the copy here is not protected any more.
absl::Status WaitUntilGone(const Options& options, const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const int64_t timeout_ns,
                         options.DurationNs("timeout", 0, 24 * 3600 * kNsPerSecond));
  const GroupDirectory directory(options.Text("directory"));
  const Clock& clock = SystemClock::Get();
  const int64_t deadline_ns = clock.NowNs() + timeout_ns;
  for (;;) {
    const absl::StatusOr<GroupRecord> now = directory.Load(record.group);
    // A copy of another name is one that was protected here since.
    if (absl::IsNotFound(now.status()) || (now.ok() && now->owner != record.owner)) break;
    if (clock.NowNs() >= deadline_ns) {
      return absl::DeadlineExceededError(absl::StrCat("group ", record.group,
                                                      ": not done yet; `haven-engine status ",
                                                      record.group, "` says what it waits for"));
    }
    poll(nullptr, 0, 50);
  }
  return absl::OkStatus();
}

// Has the protection of the copy here ended in one way or another, and waits until it has. Returns
// the record as it was.
absl::StatusOr<GroupRecord> End(const Options& options, const std::string& command) {
  const std::string& group = options.positional().front();
  HAVEN_RETURN_IF_ERROR(CheckName("group", group));
  const absl::StatusOr<GroupRecord> record = GroupDirectory(options.Text("directory")).Load(group);
  HAVEN_RETURN_IF_ERROR(Send(options, command, ""));
  HAVEN_RETURN_IF_ERROR(record.status());
  HAVEN_RETURN_IF_ERROR(WaitUntilGone(options, *record));
  return record;
}

// How it ended: the word of the register, which knows where the group runs now.
absl::StatusOr<Register> LearnEnd(const GroupRecord& record) {
  const absl::StatusOr<std::optional<Register>> now = ReadRegister(record);
  if (now.ok() && now->has_value()) return **now;
  return absl::UnavailableError(
      absl::StrCat("group ", record.group,
                   ": the copy here is not protected any more, and how that ended is "
                   "not known, since the arbiter does not say: ",
                   now.ok() ? "it has no register" : now.status().message(),
                   ". The group's .events file names the last thing that happened"));
}

int SayOtherEnd(const Options& options, const Register& now, const GroupRecord& record) {
  const bool elsewhere = now.owner != record.owner;
  if (elsewhere && record.phase == GroupPhase::kNew) {
    return Answer(options, record.group, kExitRefused,
                  absl::StrCat("another node has taken the group's name; it was never protected "
                               "here, and its guests here run on. The register says ",
                               FormatRegister(now)));
  }
  return Answer(
      options, record.group, elsewhere ? kExitDeposed : kExitFailed,
      absl::StrCat("it did not end as asked: ",
                   elsewhere ? "another copy was promoted meanwhile, and the one here is destroyed"
                             : "its guests have ended, or its protection",
                   ". The register says ", FormatRegister(now)));
}

absl::StatusOr<int> RunUnprotect(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 1, "name one group"));
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, End(options, "unprotect"));
  HAVEN_ASSIGN_OR_RETURN(const Register now, LearnEnd(record));
  if (now.owner != record.owner || now.mode != RegisterMode::kNone) {
    return SayOtherEnd(options, now, record);
  }
  return Answer(options, record.group, kExitOk,
                "unprotected: the guests run on, their output is open");
}

absl::StatusOr<int> RunHandover(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 1, "name one group"));
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, End(options, "handover"));
  HAVEN_ASSIGN_OR_RETURN(const Register now, LearnEnd(record));
  if (now.owner == record.owner) return SayOtherEnd(options, now, record);
  return Answer(options, record.group, kExitOk,
                absl::StrCat("handed over: the group runs at ", now.owner));
}

absl::StatusOr<int> RunPromote(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 1, "name one group"));
  HAVEN_RETURN_IF_ERROR(Send(options, "promote", ""));
  return Answer(options, options.positional().front(), kExitOk,
                "asked for: the register decides; `haven-engine status` shows what becomes of it");
}

absl::StatusOr<int> RunRetire(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 1, "name one group"));
  HAVEN_RETURN_IF_ERROR(Send(options, "retire", ""));
  return Answer(options, options.positional().front(), kExitOk,
                "retired: this host keeps no replica of the group");
}

absl::StatusOr<int> RunInterval(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 2, "name a group and a time, as 25ms"));
  HAVEN_RETURN_IF_ERROR(Send(options, "interval", options.positional()[1]));
  return Answer(options, options.positional().front(), kExitOk,
                absl::StrCat("the interval is ", options.positional()[1], " from now on"));
}

absl::StatusOr<int> RunCodec(const Options& options) {
  HAVEN_RETURN_IF_ERROR(NeedWords(options, 2, "name a group and a mode, as auto"));
  HAVEN_RETURN_IF_ERROR(ParseCodecMode(options.positional()[1]).status());
  HAVEN_RETURN_IF_ERROR(Send(options, "codec", options.positional()[1]));
  return Answer(options, options.positional().front(), kExitOk,
                absl::StrCat("the codec is ", options.positional()[1], " from the next epoch on"));
}

absl::StatusOr<int> RunSynthetic(const Options& options) {
  const std::vector<std::string>& words = options.positional();
  constexpr char kSay[] = "say start SPEC, show NAME, or shutdown|reboot|crash NAME";
  if (words.size() != 2) return absl::InvalidArgumentError(kSay);
  const GroupDirectory directory(options.Text("directory"));
  HAVEN_RETURN_IF_ERROR(directory.Ensure());
  const std::string runtime = SyntheticLaunchIn(directory).runtime_dir;
  if (words[0] == "start") {
    std::vector<std::string> started;
    HAVEN_RETURN_IF_ERROR(EnsureGuests(directory, {words[1]}, {}, &started));
    return kExitOk;
  }
  if (words[0] == "show") {
    HAVEN_ASSIGN_OR_RETURN(const SyntheticGuestInfo info, QuerySyntheticGuest(runtime, words[1]));
    uint64_t writes = 0;
    for (const uint64_t one : info.writes) writes += one;
    std::printf(
        "pid=%d controller=%d suspended=%d writes=%llu released=%llu held=%llu dropped=%llu\n",
        info.pid, info.controller_pid, info.suspended ? 1 : 0,
        static_cast<unsigned long long>(writes),
        static_cast<unsigned long long>(info.released_packets),
        static_cast<unsigned long long>(info.held_packets),
        static_cast<unsigned long long>(info.dropped_packets));
    return kExitOk;
  }
  DomainEnd end = DomainEnd::kNone;
  if (words[0] == "shutdown") end = DomainEnd::kShutdown;
  if (words[0] == "reboot") end = DomainEnd::kReboot;
  if (words[0] == "crash") end = DomainEnd::kCrash;
  if (end == DomainEnd::kNone) return absl::InvalidArgumentError(kSay);
  HAVEN_RETURN_IF_ERROR(EndSyntheticGuest(runtime, words[1], end));
  return kExitOk;
}

// "manual:/DIRECTORY", as everywhere an arbiter is named.
absl::StatusOr<std::string> ManualDirectory(absl::string_view spec) {
  if (absl::ConsumePrefix(&spec, "manual:") && !spec.empty()) return std::string(spec);
  return absl::InvalidArgumentError("name the arbiter as manual:/DIRECTORY");
}

absl::StatusOr<int> RunArbiter(const Options& options) {
  const std::vector<std::string>& words = options.positional();
  if (words.size() == 2 && words[0] == "list") {
    HAVEN_ASSIGN_OR_RETURN(const std::string directory, ManualDirectory(words[1]));
    HAVEN_ASSIGN_OR_RETURN(const ManualRequestList list,
                           ListManualRequests(directory, absl::Seconds(5)));
    for (const ManualRequest& request : list.requests) {
      std::printf("%s %016llx%s, asked %s\n%s", request.group.c_str(),
                  static_cast<unsigned long long>(request.request.desired.stamp),
                  request.denied ? " (denied)" : "", request.asked.c_str(),
                  ExplainChange(request.group, request.request).c_str());
    }
    for (const absl::Status& problem : list.problems) {
      std::fprintf(stderr, "%s\n", std::string(problem.message()).c_str());
    }
    return list.problems.empty() ? kExitOk : kExitFailed;
  }
  if (words.size() == 5 && words[0] == "answer" && (words[4] == "approve" || words[4] == "deny")) {
    HAVEN_ASSIGN_OR_RETURN(const std::string directory, ManualDirectory(words[1]));
    uint64_t id = 0;
    if (!absl::SimpleHexAtoi(words[3], &id)) {
      return absl::InvalidArgumentError(
          "the request's id is the 16 hexadecimal digits that `list` shows");
    }
    HAVEN_RETURN_IF_ERROR(AnswerManualRequest(
        directory, words[2], id,
        words[4] == "approve" ? ManualVerdict::kApprove : ManualVerdict::kDeny, absl::Seconds(5)));
    return kExitOk;
  }
  return absl::InvalidArgumentError(
      "say list manual:DIRECTORY, or answer manual:DIRECTORY GROUP REQUEST approve|deny");
}

Command Make(const char* name, const char* synopsis, const char* help,
             absl::StatusOr<int> (*run)(const Options&), bool waits) {
  Command command;
  command.name = name;
  command.synopsis = synopsis;
  command.help = help;
  command.options = {DirectoryOption(), JsonOption()};
  if (waits) command.options.push_back({"timeout", "TIME", "60s", "how long to wait for the end"});
  command.run = run;
  return command;
}

}  // namespace

std::vector<Command> OperatorCommands() {
  return {
      Make("promote", "GROUP",
           "Asks for the promotion of the replica on this host. The register decides.", RunPromote,
           false),
      Make("retire", "GROUP",
           "Gives up the replica on this host at once, unless the register lets it be promoted.",
           RunRetire, false),
      Make("interval", "GROUP TIME", "Changes the time between epochs while they go on.",
           RunInterval, false),
      Make("codec", "GROUP MODE",
           "Changes how pages are made small while epochs go on, or turns it off. Needs a group "
           "that was\nnot protected with --codec=off.",
           RunCodec, false),
      Make("unprotect", "GROUP", "Ends the protection through the arbiter; the guests run on here.",
           RunUnprotect, true),
      Make(
          "handover", "GROUP",
          "Moves the group to its backup: a last epoch, then a promotion there. Waits for the end.",
          RunHandover, true),
  };
}

Command SyntheticCommand() {
  Command command;
  command.name = "synthetic";
  command.synopsis = "start SPEC | show NAME | shutdown|reboot|crash NAME";
  command.help = "Starts, shows and ends synthetic guests on this node.";
  command.options = {DirectoryOption()};
  command.run = RunSynthetic;
  return command;
}

Command ArbiterCommand() {
  Command command;
  command.name = "arbiter";
  command.synopsis = "list manual:DIR | answer manual:DIR GROUP REQUEST approve|deny";
  command.help = "An operator's word for the manual arbiter (docs/arbiter.md).";
  command.run = RunArbiter;
  return command;
}

}  // namespace haven
