// SPDX-License-Identifier: Apache-2.0
//
// The commands of haven-engine.
#ifndef HAVEN_ENGINE_CLI_COMMAND_H_
#define HAVEN_ENGINE_CLI_COMMAND_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/cli/options.h"
#include "engine/cli/progress.h"
#include "engine/control/group_record.h"
#include "engine/membership/register.h"

namespace haven {

// Exit codes, as docs/operations.md documents them. The engine's own are in engine_child.h.
enum Exit : int {
  kExitOk = 0,
  kExitFailed = 1,       // It was tried and did not work; the message says why.
  kExitUsage = 2,        // The words make no sense.
  kExitNotFound = 3,     // No such group, guest or process here.
  kExitRefused = 4,      // It is not possible in the present state.
  kExitUnreachable = 5,  // Somebody does not answer.
  kExitDeposed = 6,      // Another copy of the group runs; the one here was destroyed.
};
int ExitOf(const absl::Status& status);

struct Command {
  std::string name;
  std::string synopsis;  // Behind the name.
  std::string help;      // What it does, in whole sentences.
  std::vector<OptionSpec> options;
  bool internal = false;  // Started by other commands only.
  absl::StatusOr<int> (*run)(const Options& options) = nullptr;
};

Command ProtectCommand();
Command GuardCommand();
Command EngineCommand();
Command BackupCommand();
Command SessionCommand();
Command StatusCommand();
std::vector<Command> OperatorCommands();
Command SyntheticCommand();
Command ArbiterCommand();
Command KeygenCommand();

// What several commands share.
OptionSpec DirectoryOption();
// Every command has it.
OptionSpec LogLevelOption();
// This program with another command, which logs as much as this one.
std::vector<std::string> SelfCommand(const std::string& subcommand);
// Becomes readable at SIGTERM or SIGINT, which then do nothing else. Call before any thread starts.
absl::StatusOr<int> StopSignalFd();
// What a node may say of the protection that it gives when it is the primary: rearm, pause-budget,
// copy-threads, arbiter-timeout, and what concerns the codec.
std::vector<OptionSpec> PolicyOptions();
// Reads them. InvalidArgument names the option.
absl::Status ReadPolicy(const Options& options, GroupRecord* record);
// The node's name as given, or the host's. InvalidArgument: no register can hold it.
absl::StatusOr<std::string> NodeName(const Options& options);
// A name in the register for a copy on this node.
std::string NewOwner(const std::string& node);
// What the register of a record's group says now. Errors: the arbiter's cause.
absl::StatusOr<std::optional<Register>> ReadRegister(const GroupRecord& record);

// How a guard has ended.
struct GuardOutcome {
  int exit_code = kExitFailed;
  std::string words;
};
// Runs the group's guard in this process until its end. `lock` is the group's. `progress`: how the
// copy of the guests' memory comes along is shown on stdout.
absl::StatusOr<GuardOutcome> RunGuard(const GroupDirectory& directory, const std::string& group,
                                      UniqueFd lock, std::optional<ProgressForm> progress);
// The exit code; with --json the outcome is said on stdout, else it has been logged.
int TellOutcome(const Options& options, const std::string& group, const GuardOutcome& outcome);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_COMMAND_H_
