// SPDX-License-Identifier: Apache-2.0
//
// verbs_check: tries the contract of transport/fabric.h over real verbs between two hosts.
//
//   verbs_check serve rdma:HOST:PORT[,dev=..][,rail=..] CREDENTIALS
//   verbs_check run   rdma:HOST:PORT[,dev=..][,rail=..] CREDENTIALS [CASE]
//
// CREDENTIALS is --insecure, --psk=FILE, or --ca=FILE --certificate=FILE --key=FILE. `run` logs a
// line for each case and ends with 0 if none failed; CASE names one, and "figures", which only
// measures, runs by its name alone. `serve` takes a process for each connection and goes on until
// it is killed; with --once until the first one's end.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "transport/tls/deadline.h"
#include "transport/verbs/link_check_wire.h"
#include "transport/verbs/verbs_transport.h"

namespace haven {
namespace {

struct Arguments {
  std::string command;
  std::string address;
  std::string only;
  bool once = false;
  VerbsTransportOptions options;
};

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words) {
  Arguments arguments;
  CredentialOptions& credentials = arguments.options.credentials;
  std::vector<std::string> plain;
  for (const std::string& word : words) {
    absl::string_view value = word;
    if (word == "--insecure") {
      credentials.insecure = true;
    } else if (word == "--once") {
      arguments.once = true;
    } else if (absl::ConsumePrefix(&value, "--psk=")) {
      credentials.psk_file = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--ca=")) {
      credentials.ca_file = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--certificate=")) {
      credentials.certificate_file = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--key=")) {
      credentials.key_file = std::string(value);
    } else if (absl::StartsWith(word, "-")) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option ", word));
    } else {
      plain.push_back(word);
    }
  }
  if (plain.size() < 2 || plain.size() > 3 || (plain[0] != "serve" && plain[0] != "run")) {
    return absl::InvalidArgumentError("usage: verbs_check serve|run ADDRESS CREDENTIALS [CASE]");
  }
  arguments.command = plain[0];
  arguments.address = plain[1];
  if (plain.size() == 3) arguments.only = plain[2];
  return arguments;
}

absl::StatusOr<int> Serve(Transport& transport, const Arguments& arguments) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener,
                         transport.Listen(arguments.address));
  HAVEN_LOG(kInfo, "check") << "serving at " << listener->address();
  // Its ends are of no interest, but for --once.
  if (!arguments.once) signal(SIGCHLD, SIG_IGN);
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(
        const bool ready, WaitForFd(listener->fd(), POLLIN, NetDeadline(absl::InfiniteDuration())));
    if (!ready) continue;
    HAVEN_ASSIGN_OR_RETURN(const std::optional<int> connection, listener->Accept());
    if (!connection.has_value()) continue;
    const pid_t pid = fork();
    if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
    if (pid == 0) {
      const absl::Status end = ServeCheck(transport, *connection);
      HAVEN_LOG(kInfo, "check") << "session ends: " << end;
      return end.ok() ? 0 : 1;
    }
    close(*connection);
    int status = 0;
    if (arguments.once && waitpid(pid, &status, 0) == pid) return 0;
  }
}

absl::StatusOr<int> Main(const std::vector<std::string>& words) {
  HAVEN_ASSIGN_OR_RETURN(Arguments arguments, Parse(words));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport,
                         MakeVerbsTransport(arguments.options));
  if (arguments.command == "serve") return Serve(*transport, arguments);
  HAVEN_ASSIGN_OR_RETURN(const int failed,
                         RunChecks(*transport, arguments.address, arguments.only));
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace haven

int main(int count, char** words) {
  const absl::StatusOr<int> result =
      haven::Main(std::vector<std::string>(words + 1, words + count));
  if (result.ok()) return *result;
  HAVEN_LOG(kError, "check") << result.status();
  return 2;
}
