// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/keygen.h"

#include <cstdio>

#include "engine/base/status_macros.h"
#include "engine/cli/command.h"

namespace haven {

namespace {

absl::StatusOr<int> RunKeygen(const Options& options) {
  const std::vector<std::string>& words = options.positional();
  const std::string kind = words.empty() ? "" : words[0];
  if (kind == "psk" && words.size() == 2) {
    HAVEN_RETURN_IF_ERROR(MakePskFile(words[1]));
    std::printf("%s: the key of both hosts; copy it to the other one by a safe way\n",
                words[1].c_str());
  } else if (kind == "ca" && words.size() == 2) {
    HAVEN_RETURN_IF_ERROR(MakeAuthority(words[1]));
    std::printf("%s/ca.crt goes to every node; ca.key stays here\n", words[1].c_str());
  } else if (kind == "node" && words.size() == 3) {
    HAVEN_RETURN_IF_ERROR(IssueCertificate(words[1], words[2]));
    std::printf("%s/%s.crt and %s.key go to that node\n", words[1].c_str(), words[2].c_str(),
                words[2].c_str());
  } else {
    return absl::InvalidArgumentError("say psk FILE, ca DIRECTORY, or node DIRECTORY NODE");
  }
  return kExitOk;
}

}  // namespace

Command KeygenCommand() {
  Command command;
  command.name = "keygen";
  command.synopsis = "psk FILE | ca DIRECTORY | node DIRECTORY NODE";
  command.help =
      "Makes what two hosts need to prove who they are to each other over RDMA: a pre-shared key,\n"
      "or an authority and a certificate for each node. Overwrites nothing.";
  command.run = RunKeygen;
  return command;
}

}  // namespace haven
