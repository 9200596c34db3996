// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/answer.h"
#include "engine/cli/command.h"
#include "engine/synthetic/guest_main.h"

namespace haven {
namespace {

std::vector<Command> Commands() {
  std::vector<Command> commands = {ProtectCommand(), BackupCommand(), StatusCommand()};
  for (Command& command : OperatorCommands()) commands.push_back(std::move(command));
  commands.push_back(GuardCommand());
  commands.push_back(SyntheticCommand());
  commands.push_back(ArbiterCommand());
  commands.push_back(KeygenCommand());
  commands.push_back(EngineCommand());
  commands.push_back(SessionCommand());
  return commands;
}

void PrintOverview(FILE* to) {
  std::fprintf(to,
               "haven-engine keeps virtual machines running through the death of their host.\n\n"
               "usage: haven-engine COMMAND ...; haven-engine COMMAND --help says more\n\n");
  for (const Command& command : Commands()) {
    if (command.internal) continue;
    std::fprintf(to, "  %-10s %s\n", command.name.c_str(),
                 command.help.substr(0, command.help.find('\n')).c_str());
  }
  std::fprintf(
      to,
      "\nexit codes: 0 done, 1 failed, 2 wrong words, 3 not found, 4 refused or not protected, "
      "5 unreachable,\n            6 deposed: another copy of the group runs\n");
}

void PrintHelp(const Command& command) {
  std::printf("usage: haven-engine %s %s\n\n%s\n\n%s", command.name.c_str(),
              command.synopsis.c_str(), command.help.c_str(),
              DescribeOptions(command.options).c_str());
}

absl::StatusOr<int> RunCommand(const Command& command, const Options& options) {
  HAVEN_ASSIGN_OR_RETURN(const LogLevel level, ParseLogLevel(options.Text("log-level")));
  SetLogLevel(level);
  return command.run(options);
}

int Main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "synthetic-guest") return SyntheticGuestMain(argc - 2, argv + 2);
  if (name.empty() || name == "--help" || name == "help") {
    PrintOverview(name.empty() ? stderr : stdout);
    return name.empty() ? kExitUsage : kExitOk;
  }
  for (Command& command : Commands()) {
    if (command.name != name) continue;
    command.options.push_back(LogLevelOption());
    const std::vector<std::string> words(argv + 2, argv + argc);
    for (const std::string& word : words) {
      if (word != "--help") continue;
      PrintHelp(command);
      return kExitOk;
    }
    const absl::StatusOr<Options> options = Options::Parse(command.options, words);
    const absl::StatusOr<int> code =
        options.ok() ? RunCommand(command, *options) : options.status();
    if (code.ok()) return *code;
    if (name != "status" && options.ok() && options->Has("json")) {
      const std::vector<std::string>& named = options->positional();
      // Those of `protect` are guests.
      const std::string group = name == "protect" ? options->Text("group")
                                : named.empty()   ? ""
                                                  : named.front();
      std::printf("%s\n",
                  AnswerJson(group, ExitOf(code.status()), code.status().message()).c_str());
      return ExitOf(code.status());
    }
    std::fprintf(stderr, "haven-engine %s: %s\n", name.c_str(),
                 std::string(code.status().message()).c_str());
    return ExitOf(code.status());
  }
  std::fprintf(stderr, "haven-engine: there is no command \"%s\"; see haven-engine --help\n",
               name.c_str());
  return kExitUsage;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) { return haven::Main(argc, argv); }
