// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/guests.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/cli/guest_kinds.h"
#include "engine/synthetic/operator.h"
#include "xen/base/description.h"

namespace haven {

namespace {

// "KIND:NAME", taken apart.
struct GuestName {
  bool xen = false;
  std::string name;
};

absl::StatusOr<GuestName> ParseName(absl::string_view guest) {
  if (absl::ConsumePrefix(&guest, kSyntheticKind)) return GuestName{false, std::string(guest)};
  if (absl::ConsumePrefix(&guest, kXenKind)) return GuestName{true, std::string(guest)};
  return absl::InvalidArgumentError(
      absl::StrCat("guest \"", guest, "\" is of no kind that this program knows"));
}

// A word of `protect`: whether it means a guest on Xen.
absl::StatusOr<bool> IsXenWord(const std::string& word) {
  if (absl::StartsWith(word, kXenKind)) return true;
  if (absl::StartsWith(word, kSyntheticKind) || word == "synthetic") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("guest \"", word,
                   "\": the kinds of guest that there are: xen:NAME, synthetic:KEY=VALUE,..."));
}

std::string WithoutKind(const std::string& word) { return word.substr(word.find(':') + 1); }

}  // namespace

absl::StatusOr<std::vector<std::string>> NameGuests(const std::vector<std::string>& words) {
  std::vector<std::string> guests;
  for (const std::string& word : words) {
    HAVEN_ASSIGN_OR_RETURN(const bool xen, IsXenWord(word));
    if (!guests.empty() && absl::StartsWith(guests.front(), kXenKind) != xen) {
      return absl::InvalidArgumentError(
          "the guests of a group are of one kind: all on Xen, or all synthetic");
    }
    if (xen) {
      HAVEN_ASSIGN_OR_RETURN(const std::string name, NameXenGuest(WithoutKind(word)));
      guests.push_back(absl::StrCat(kXenKind, name));
    } else {
      HAVEN_ASSIGN_OR_RETURN(const std::string name, NameSyntheticGuest(word));
      guests.push_back(absl::StrCat(kSyntheticKind, name));
    }
  }
  return guests;
}

absl::Status EnsureGuests(const GroupDirectory& directory, const std::vector<std::string>& words,
                          const GuestOptions& options, std::vector<std::string>* started) {
  for (const std::string& word : words) {
    HAVEN_ASSIGN_OR_RETURN(const bool xen, IsXenWord(word));
    HAVEN_RETURN_IF_ERROR(xen ? CheckXenGuestWord(WithoutKind(word), options)
                              : EnsureSyntheticGuest(directory, word, started));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GuestExists(const GroupDirectory& directory, const std::string& guest) {
  HAVEN_ASSIGN_OR_RETURN(const GuestName parsed, ParseName(guest));
  return parsed.xen ? XenGuestExists(parsed.name) : SyntheticGuestExists(directory, parsed.name);
}

absl::Status ShutDownGuest(const GroupDirectory& directory, const std::string& guest) {
  HAVEN_ASSIGN_OR_RETURN(const GuestName parsed, ParseName(guest));
  if (parsed.xen) {
    return absl::InvalidArgumentError(absl::StrCat(guest, " was not started by this program"));
  }
  return EndSyntheticGuest(SyntheticLaunchIn(directory).runtime_dir, parsed.name,
                           DomainEnd::kShutdown);
}

absl::StatusOr<GuestSet> AttachNodeGuests(const GroupDirectory& directory,
                                          const GroupRecord& record, GuestHold hold) {
  std::vector<std::string> names;
  bool xen = false;
  for (const std::string& guest : record.guests) {
    const absl::StatusOr<GuestName> parsed = ParseName(guest);
    if (!parsed.ok() || (!names.empty() && parsed->xen != xen)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "group ", record.group, ": ",
          parsed.ok() ? "its guests are of more than one kind" : parsed.status().message()));
    }
    xen = parsed->xen;
    names.push_back(parsed->name);
  }
  if (!xen) return AttachSyntheticGuests(directory, names);
  return AttachXenGuests(record.group, names, {.unsafe_disk = record.unsafe_disk}, hold);
}

// What the copies of one session share.
struct NodeReplicaFactory::Shared {
  BeforeRun before_run;
  std::vector<std::string> guests;
  bool told = false;
};

namespace {

// A copy that is announced before it outlives this process: from then on this host may have a guest
// that runs.
class AnnouncedReplica final : public ReplicaDomain {
 public:
  AnnouncedReplica(std::unique_ptr<ReplicaDomain> inner, std::function<absl::Status()> announce)
      : inner_(std::move(inner)), announce_(std::move(announce)) {}

  const GuestMemory& memory() const override { return inner_->memory(); }
  absl::Status CheckState(std::span<const std::byte> state) const override {
    return inner_->CheckState(state);
  }
  absl::Status Prepare(std::span<const std::byte> state) override { return inner_->Prepare(state); }
  absl::Status Outlive() override {
    HAVEN_RETURN_IF_ERROR(announce_());
    return inner_->Outlive();
  }
  absl::Status Run() override { return inner_->Run(); }
  absl::Status Abandon() override { return inner_->Abandon(); }

 private:
  const std::unique_ptr<ReplicaDomain> inner_;
  const std::function<absl::Status()> announce_;
};

}  // namespace

NodeReplicaFactory::NodeReplicaFactory(GroupDirectory directory, ReplicaOverrides overrides,
                                       BeforeRun before_run)
    : directory_(std::move(directory)),
      overrides_(std::move(overrides)),
      shared_(std::make_shared<Shared>()) {
  shared_->before_run = std::move(before_run);
}

NodeReplicaFactory::~NodeReplicaFactory() = default;

absl::StatusOr<std::unique_ptr<ReplicaDomain>> NodeReplicaFactory::Build(
    const HelloDomain& domain) {
  const bool xen = IsXenDescription(domain.config);
  if (!xen && !absl::StartsWith(domain.config, kSyntheticKind)) {
    return absl::InvalidArgumentError(
        absl::StrCat("guest ", domain.name, ": this host can not build a guest of its kind"));
  }
  HAVEN_ASSIGN_OR_RETURN(BuiltReplica built,
                         xen ? BuildXenReplicaHere(domain, overrides_.xen)
                             : BuildSyntheticReplica(directory_, domain, overrides_.synthetic));
  shared_->guests.push_back(absl::StrCat(xen ? kXenKind : kSyntheticKind, built.name));
  return std::make_unique<AnnouncedReplica>(std::move(built.replica), [shared = shared_] {
    if (std::exchange(shared->told, true)) return absl::OkStatus();
    return shared->before_run(shared->guests);
  });
}

}  // namespace haven
