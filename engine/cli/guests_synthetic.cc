// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/guest_kinds.h"
#include "engine/synthetic/connection.h"
#include "engine/synthetic/operator.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/synthetic_replica.h"

namespace haven {

SyntheticLaunch SyntheticLaunchIn(const GroupDirectory& directory) {
  SyntheticLaunch launch;
  launch.command = {"/proc/self/exe", "synthetic-guest"};
  launch.runtime_dir = absl::StrCat(directory.path(), "/guests");
  mkdir(launch.runtime_dir.c_str(), 0700);
  return launch;
}

absl::StatusOr<std::string> NameSyntheticGuest(const std::string& word) {
  HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseSyntheticSpec(word));
  return spec.name;
}

absl::Status EnsureSyntheticGuest(const GroupDirectory& directory, const std::string& word,
                                  std::vector<std::string>* started) {
  HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseSyntheticSpec(word));
  const absl::StatusOr<pid_t> pid = StartSyntheticGuest(SyntheticLaunchIn(directory), spec);
  if (absl::IsAlreadyExists(pid.status())) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(pid.status());
  started->push_back(absl::StrCat(kSyntheticKind, spec.name));
  HAVEN_LOG(kInfo, "protect") << "guest " << spec.name << " started, pid=" << *pid;
  return absl::OkStatus();
}

absl::StatusOr<bool> SyntheticGuestExists(const GroupDirectory& directory,
                                          const std::string& name) {
  const absl::Status found =
      QuerySyntheticGuest(SyntheticLaunchIn(directory).runtime_dir, name).status();
  if (absl::IsNotFound(found) || absl::IsUnavailable(found)) return false;
  HAVEN_RETURN_IF_ERROR(found);
  return true;
}

absl::StatusOr<GuestSet> AttachSyntheticGuests(const GroupDirectory& directory,
                                               const std::vector<std::string>& names) {
  GuestSet set;
  std::vector<std::shared_ptr<SyntheticConnection>> connections;
  for (const std::string& name : names) {
    absl::StatusOr<std::shared_ptr<SyntheticConnection>> connection =
        SyntheticConnection::Attach(SyntheticLaunchIn(directory).runtime_dir, name);
    if (absl::IsNotFound(connection.status())) {
      set.ended.emplace_back(connection.status().message());
      continue;
    }
    HAVEN_RETURN_IF_ERROR(connection.status());
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<SyntheticSuspend> suspend,
                           SyntheticSuspend::Create(*connection));
    set.domains.push_back(std::make_unique<SyntheticDomain>(*connection));
    set.suspends.push_back(std::move(suspend));
    connections.push_back(*std::move(connection));
  }
  if (connections.empty()) return absl::NotFoundError(absl::StrJoin(set.ended, "; "));
  set.output = std::make_unique<SyntheticOutput>(std::move(connections));
  return set;
}

absl::StatusOr<BuiltReplica> BuildSyntheticReplica(const GroupDirectory& directory,
                                                   const HelloDomain& domain,
                                                   const std::string& overrides) {
  BuiltReplica built;
  HAVEN_ASSIGN_OR_RETURN(built.replica, SyntheticReplica::Create(SyntheticLaunchIn(directory),
                                                                 domain.config, overrides));
  built.name = domain.name;
  return built;
}

}  // namespace haven
