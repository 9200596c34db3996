// SPDX-License-Identifier: Apache-2.0
//
// hub --control=SOCKET [--seed=N] [--stir=NAME,...] NAME:NETWORK:SOCKET...
#include <sys/signalfd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_split.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "tests/lab/hub/hub.h"

ABSL_FLAG(std::string, control, "", "the socket for commands");
ABSL_FLAG(uint64_t, seed, 1, "of what is lost, damaged and delayed");
ABSL_FLAG(std::vector<std::string>, stir, {},
          "ports that get a frame that means nothing ten times a second");

namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "hub: %s\n", status.ToString().c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  const std::vector<std::string> stir = absl::GetFlag(FLAGS_stir);
  std::vector<haven::PortSpec> ports;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::vector<std::string> parts = absl::StrSplit(arguments[i], absl::MaxSplits(':', 2));
    if (parts.size() != 3) {
      std::fprintf(stderr, "hub: \"%s\" is not NAME:NETWORK:SOCKET\n", arguments[i]);
      return 2;
    }
    const bool stirred = std::find(stir.begin(), stir.end(), parts[0]) != stir.end();
    ports.push_back({parts[0], parts[1], parts[2], stirred});
  }
  // Signals end the loop, so that the sockets are removed.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const haven::UniqueFd stop(signalfd(-1, &signals, SFD_CLOEXEC));

  auto hub = haven::Hub::Start(ports, absl::GetFlag(FLAGS_control), absl::GetFlag(FLAGS_seed),
                               haven::SystemClock::Get());
  if (!hub.ok()) return Fail(hub.status());
  // What starts us waits for this line: every socket is there.
  std::puts("ready");
  std::fflush(stdout);
  const absl::Status status = (*hub)->Run(stop.get());
  return status.ok() ? 0 : Fail(status);
}
