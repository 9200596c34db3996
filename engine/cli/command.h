// SPDX-License-Identifier: Apache-2.0
//
// The commands of haven-engine.
#ifndef HAVEN_ENGINE_CLI_COMMAND_H_
#define HAVEN_ENGINE_CLI_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/cli/options.h"
#include "engine/control/guard.h"

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

// What several commands share.
OptionSpec DirectoryOption();
std::vector<std::string> SelfCommand(const std::string& subcommand);
// Becomes readable at SIGTERM or SIGINT, which then do nothing else. Call before any thread starts.
absl::StatusOr<int> StopSignalFd();
// Runs the group's guard in this process until its end.
absl::StatusOr<int> RunGuard(const GroupDirectory& directory, const std::string& group);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_COMMAND_H_
