// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/guest_kinds.h"
#include "xen/backup/build_xen_replica.h"
#include "xen/backup/replica_options.h"
#include "xen/backup/xen_replica_host.h"
#include "xen/output/domains_output.h"
#include "xen/output/plug_spec.h"
#include "xen/primary/attach.h"
#include "xen/primary/host_actions.h"
#include "xen/primary/toolstack_monitor.h"

namespace haven {

namespace {

// What ends with a protection.
void LetGo(const std::vector<std::string>& guests, const std::vector<uint32_t>& domains) {
  for (const uint32_t domid : domains) {
    // It goes with the domain, too.
    UnmarkXenGuest(domid).IgnoreError();
  }
  for (const std::string& guest : guests) ContinueToolstackMonitors(guest);
}

// The output of guests that are ours while they are protected: their toolstack's monitors, which
// stand still, go on when nothing is buffered any more, at the register's word or with nothing left
// to monitor.
class MonitoredOutput final : public OutputBuffer {
 public:
  MonitoredOutput(std::unique_ptr<OutputBuffer> inner, std::vector<std::string> guests,
                  std::vector<uint32_t> domains)
      : inner_(std::move(inner)), guests_(std::move(guests)), domains_(std::move(domains)) {}

  absl::Status Prepare() override { return inner_->Prepare(); }
  absl::Status Hold() override { return inner_->Hold(); }
  absl::Status Barrier() override { return inner_->Barrier(); }
  absl::Status ReleaseOne() override { return inner_->ReleaseOne(); }
  absl::Status OpenAll() override { return inner_->OpenAll(); }
  absl::Status Rebuild() override { return inner_->Rebuild(); }
  absl::Status Discard() override { return Ended(inner_->Discard()); }
  absl::Status Remove() override { return Ended(inner_->Remove()); }
  OutputStats stats() override { return inner_->stats(); }
  absl::Status Health() override { return inner_->Health(); }

 private:
  absl::Status Ended(const absl::Status& status) {
    if (status.ok()) LetGo(guests_, domains_);
    return status;
  }

  const std::unique_ptr<OutputBuffer> inner_;
  const std::vector<std::string> guests_;
  const std::vector<uint32_t> domains_;
};

// A domain that no other process has hold of for as long as this object is there, and whose end is
// nobody else's business from the beginning of a session on.
class HeldDomain final : public Domain {
 public:
  HeldDomain(std::string name, XenGuest& guest)
      : name_(std::move(name)),
        domid_(guest.domid),
        hold_(std::move(guest.hold)),
        inner_(std::move(guest.domain)) {}

  const DomainInfo& info() const override { return inner_->info(); }
  const GuestMemory& memory() const override { return inner_->memory(); }
  absl::Status EnableLogDirty() override {
    HAVEN_RETURN_IF_ERROR(MarkXenGuest(domid_, name_));
    StopToolstackMonitors(name_);
    return inner_->EnableLogDirty();
  }
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    return inner_->FetchAndClearDirty(bitmap);
  }
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override {
    return inner_->FetchDirty(bitmap);
  }
  absl::StatusOr<uint64_t> CountDirty() override { return inner_->CountDirty(); }
  void DisableLogDirty() override { inner_->DisableLogDirty(); }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    return inner_->CaptureState(out);
  }
  size_t max_state_bytes() const override { return inner_->max_state_bytes(); }
  DomainEnd End() override { return inner_->End(); }
  absl::Status CheckMemory() override { return inner_->CheckMemory(); }
  absl::Status CheckDevices() override { return inner_->CheckDevices(); }
  absl::Status LetRun() override { return inner_->LetRun(); }
  absl::Status Destroy() override { return inner_->Destroy(); }

 private:
  const std::string name_;  // For us, whatever it is called now.
  const uint32_t domid_;
  const UniqueFd hold_;
  const std::unique_ptr<Domain> inner_;
};

absl::StatusOr<std::unique_ptr<OutputBuffer>> AttachOutput(const std::string& group,
                                                           const std::vector<uint32_t>& domains) {
  PlugSpec spec;
  spec.group = group;
  spec.domains = domains;
  return DomainsOutput::Attach(spec);
}

// Of a group whose guests are all gone: nobody sends any more, and nothing that is held may leave.
void CleanUpAfter(const std::string& group, const std::vector<std::string>& guests) {
  absl::StatusOr<std::unique_ptr<OutputBuffer>> output = AttachOutput(group, {});
  const absl::Status cleaned = output.ok() ? (*output)->Discard() : output.status();
  if (!cleaned.ok()) {
    HAVEN_LOG(kWarning, "xen") << "group=" << group << " what has held its output is left: "
                               << std::string(cleaned.message());
  }
  LetGo(guests, {});
}

}  // namespace

absl::StatusOr<std::string> NameXenGuest(const std::string& word) {
  HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(word));
  return XenGuestName(domid);
}

absl::Status CheckXenGuestWord(const std::string& word, const GuestOptions& options) {
  return CheckXenGuest(word, {.unsafe_disk = options.unsafe_disk});
}

absl::StatusOr<bool> XenGuestExists(const std::string& name) {
  const absl::Status found = FindXenGuest(name).status();
  if (absl::IsNotFound(found)) return false;
  HAVEN_RETURN_IF_ERROR(found);
  return true;
}

absl::StatusOr<GuestSet> AttachXenGuests(const std::string& group,
                                         const std::vector<std::string>& names,
                                         const GuestOptions& options, GuestHold hold) {
  GuestSet set;
  std::vector<uint32_t> domains;
  for (const std::string& name : names) {
    absl::StatusOr<XenGuest> guest =
        AttachXenGuest(name, hold == GuestHold::kReplicate ? XenHold::kReplicate : XenHold::kRun,
                       {.unsafe_disk = options.unsafe_disk});
    if (absl::IsNotFound(guest.status())) {
      set.ended.emplace_back(guest.status().message());
      continue;
    }
    HAVEN_RETURN_IF_ERROR(guest.status());
    domains.push_back(guest->domid);
    set.domains.push_back(std::make_unique<HeldDomain>(name, *guest));
    set.suspends.push_back(std::move(guest->suspend));
  }
  if (domains.empty()) {
    CleanUpAfter(group, names);
    return absl::NotFoundError(absl::StrJoin(set.ended, "; "));
  }
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<OutputBuffer> output, AttachOutput(group, domains));
  set.output = std::make_unique<MonitoredOutput>(std::move(output), names, std::move(domains));
  return set;
}

absl::StatusOr<BuiltReplica> BuildXenReplicaHere(const HelloDomain& domain,
                                                 const std::string& overrides) {
  HAVEN_ASSIGN_OR_RETURN(const XenReplicaOptions options, ParseXenReplicaOptions(overrides));
  BuiltReplica built;
  built.name = options.name.empty() ? domain.name : options.name;
  const std::vector<std::string> reasons = ReasonsAgainstHost("", built.name);
  if (!reasons.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "guest ", built.name, " can not have a copy on this host: ", absl::StrJoin(reasons, "; ")));
  }
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ReplicaHost> host, OpenReplicaHost());
  HAVEN_ASSIGN_OR_RETURN(built.replica, BuildXenReplica(std::move(host), domain, options));
  return built;
}

}  // namespace haven
