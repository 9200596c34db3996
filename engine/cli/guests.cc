// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/guests.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/connection.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/synthetic_replica.h"

namespace haven {

namespace {

constexpr char kSyntheticKind[] = "synthetic:";

}  // namespace

SyntheticLaunch SyntheticLaunchIn(const GroupDirectory& directory) {
  SyntheticLaunch launch;
  launch.command = {"/proc/self/exe", "synthetic-guest"};
  launch.runtime_dir = absl::StrCat(directory.path(), "/guests");
  mkdir(launch.runtime_dir.c_str(), 0700);
  return launch;
}

absl::StatusOr<std::vector<std::string>> EnsureGuests(const GroupDirectory& directory,
                                                      const std::vector<std::string>& words) {
  std::vector<std::string> guests;
  for (const std::string& word : words) {
    if (!absl::StartsWith(word, kSyntheticKind) && word != "synthetic") {
      return absl::InvalidArgumentError(absl::StrCat(
          "guest \"", word, "\": the kinds of guest that there are: synthetic:KEY=VALUE,..."));
    }
    HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseSyntheticSpec(word));
    const absl::StatusOr<pid_t> pid = StartSyntheticGuest(SyntheticLaunchIn(directory), spec);
    if (pid.ok()) {
      HAVEN_LOG(kInfo, "protect") << "guest " << spec.name << " started, pid=" << *pid;
    } else if (!absl::IsAlreadyExists(pid.status())) {
      return pid.status();
    }
    guests.push_back(absl::StrCat(kSyntheticKind, spec.name));
  }
  return guests;
}

absl::StatusOr<GuestSet> AttachNodeGuests(const GroupDirectory& directory,
                                          const GroupRecord& record) {
  GuestSet set;
  std::vector<std::shared_ptr<SyntheticConnection>> connections;
  for (const std::string& guest : record.guests) {
    absl::string_view name = guest;
    if (!absl::ConsumePrefix(&name, kSyntheticKind)) {
      return absl::InvalidArgumentError(absl::StrCat("group ", record.group, ": guest \"", guest,
                                                     "\" is of no kind that this program knows"));
    }
    HAVEN_ASSIGN_OR_RETURN(
        std::shared_ptr<SyntheticConnection> connection,
        SyntheticConnection::Attach(SyntheticLaunchIn(directory).runtime_dir, std::string(name)));
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<SyntheticSuspend> suspend,
                           SyntheticSuspend::Create(connection));
    set.domains.push_back(std::make_unique<SyntheticDomain>(connection));
    set.suspends.push_back(std::move(suspend));
    connections.push_back(std::move(connection));
  }
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
