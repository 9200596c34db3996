// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/guests.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/connection.h"
#include "engine/synthetic/operator.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/synthetic_replica.h"

namespace haven {

namespace {

constexpr char kSyntheticKind[] = "synthetic:";

absl::StatusOr<std::string> SyntheticNameOf(absl::string_view guest) {
  if (absl::ConsumePrefix(&guest, kSyntheticKind)) return std::string(guest);
  return absl::InvalidArgumentError(
      absl::StrCat("guest \"", guest, "\" is of no kind that this program knows"));
}

absl::StatusOr<SyntheticSpec> ParseGuest(const std::string& word) {
  if (absl::StartsWith(word, kSyntheticKind) || word == "synthetic") {
    return ParseSyntheticSpec(word);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "guest \"", word, "\": the kinds of guest that there are: synthetic:KEY=VALUE,..."));
}

}  // namespace

SyntheticLaunch SyntheticLaunchIn(const GroupDirectory& directory) {
  SyntheticLaunch launch;
  launch.command = {"/proc/self/exe", "synthetic-guest"};
  launch.runtime_dir = absl::StrCat(directory.path(), "/guests");
  mkdir(launch.runtime_dir.c_str(), 0700);
  return launch;
}

absl::StatusOr<std::vector<std::string>> NameGuests(const std::vector<std::string>& words) {
  std::vector<std::string> guests;
  for (const std::string& word : words) {
    HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseGuest(word));
    guests.push_back(absl::StrCat(kSyntheticKind, spec.name));
  }
  return guests;
}

absl::Status EnsureGuests(const GroupDirectory& directory, const std::vector<std::string>& words,
                          std::vector<std::string>* started) {
  for (const std::string& word : words) {
    HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseGuest(word));
    const absl::StatusOr<pid_t> pid = StartSyntheticGuest(SyntheticLaunchIn(directory), spec);
    if (absl::IsAlreadyExists(pid.status())) continue;
    HAVEN_RETURN_IF_ERROR(pid.status());
    started->push_back(absl::StrCat(kSyntheticKind, spec.name));
    HAVEN_LOG(kInfo, "protect") << "guest " << spec.name << " started, pid=" << *pid;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GuestExists(const GroupDirectory& directory, const std::string& guest) {
  HAVEN_ASSIGN_OR_RETURN(const std::string name, SyntheticNameOf(guest));
  const absl::Status found =
      QuerySyntheticGuest(SyntheticLaunchIn(directory).runtime_dir, name).status();
  if (absl::IsNotFound(found) || absl::IsUnavailable(found)) return false;
  HAVEN_RETURN_IF_ERROR(found);
  return true;
}

absl::Status ShutDownGuest(const GroupDirectory& directory, const std::string& guest) {
  HAVEN_ASSIGN_OR_RETURN(const std::string name, SyntheticNameOf(guest));
  return EndSyntheticGuest(SyntheticLaunchIn(directory).runtime_dir, name, DomainEnd::kShutdown);
}

absl::StatusOr<GuestSet> AttachNodeGuests(const GroupDirectory& directory,
                                          const GroupRecord& record) {
  GuestSet set;
  std::vector<std::shared_ptr<SyntheticConnection>> connections;
  for (const std::string& guest : record.guests) {
    const absl::StatusOr<std::string> name = SyntheticNameOf(guest);
    if (!name.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("group ", record.group, ": ", name.status().message()));
    }
    absl::StatusOr<std::shared_ptr<SyntheticConnection>> connection =
        SyntheticConnection::Attach(SyntheticLaunchIn(directory).runtime_dir, *name);
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

// What the copies of one session share.
struct NodeReplicaFactory::Shared {
  BeforeRun before_run;
  std::vector<std::string> guests;
  bool told = false;
};

namespace {

// A copy whose preparation is announced first: from then on this host may have a guest that runs.
class AnnouncedReplica final : public ReplicaDomain {
 public:
  AnnouncedReplica(std::unique_ptr<ReplicaDomain> inner, std::function<absl::Status()> announce)
      : inner_(std::move(inner)), announce_(std::move(announce)) {}

  const GuestMemory& memory() const override { return inner_->memory(); }
  absl::Status CheckState(std::span<const std::byte> state) const override {
    return inner_->CheckState(state);
  }
  absl::Status Prepare(std::span<const std::byte> state) override {
    HAVEN_RETURN_IF_ERROR(announce_());
    return inner_->Prepare(state);
  }
  absl::Status Run() override { return inner_->Run(); }
  absl::Status Abandon() override { return inner_->Abandon(); }

 private:
  const std::unique_ptr<ReplicaDomain> inner_;
  const std::function<absl::Status()> announce_;
};

}  // namespace

NodeReplicaFactory::NodeReplicaFactory(GroupDirectory directory, std::string overrides,
                                       BeforeRun before_run)
    : directory_(std::move(directory)),
      overrides_(std::move(overrides)),
      shared_(std::make_shared<Shared>()) {
  shared_->before_run = std::move(before_run);
}

NodeReplicaFactory::~NodeReplicaFactory() = default;

absl::StatusOr<std::unique_ptr<ReplicaDomain>> NodeReplicaFactory::Build(
    const HelloDomain& domain) {
  if (!absl::StartsWith(domain.config, kSyntheticKind)) {
    return absl::InvalidArgumentError(
        absl::StrCat("guest ", domain.name, ": this host can not build a guest of its kind"));
  }
  HAVEN_ASSIGN_OR_RETURN(
      std::unique_ptr<SyntheticReplica> replica,
      SyntheticReplica::Create(SyntheticLaunchIn(directory_), domain.config, overrides_));
  shared_->guests.push_back(absl::StrCat(kSyntheticKind, domain.name));
  return std::make_unique<AnnouncedReplica>(std::move(replica), [shared = shared_] {
    if (std::exchange(shared->told, true)) return absl::OkStatus();
    return shared->before_run(shared->guests);
  });
}

}  // namespace haven
