// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/cli/guest_kinds.h"
#include "xen/backup/build_xen_replica.h"
#include "xen/backup/replica_options.h"
#include "xen/backup/xen_replica_host.h"
#include "xen/output/plug_output.h"
#include "xen/output/vif_names.h"
#include "xen/primary/attach.h"
#include "xen/primary/toolstack_monitor.h"

namespace haven {

namespace {

// Of guests that have no NIC: there is nothing to hold. A NIC that comes is not held either, which
// is a failure of the buffer; building it anew does not help, only the next engine has it.
class NoOutput final : public OutputBuffer {
 public:
  explicit NoOutput(std::vector<uint32_t> domains) : domains_(std::move(domains)) {}

  absl::Status Hold() override { return Health(); }
  absl::Status Barrier() override { return absl::OkStatus(); }
  absl::Status ReleaseOne() override { return absl::OkStatus(); }
  absl::Status OpenAll() override { return absl::OkStatus(); }
  absl::Status Rebuild() override { return Health(); }
  absl::Status Discard() override { return absl::OkStatus(); }
  absl::Status Remove() override { return absl::OkStatus(); }
  OutputStats stats() override { return {}; }
  absl::Status Health() override {
    for (const uint32_t domid : domains_) {
      HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> vifs, FindVifs(domid));
      if (vifs.empty()) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("domain ", domid, " has got a NIC, ", vifs.front(),
                       ", whose output is not held: detach it, or protect the guest anew"));
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<uint32_t> domains_;
};

// The output of guests whose toolstack's monitors stand still while they are protected: these go on
// when nothing is buffered any more, at the register's word or with nothing left to monitor.
class MonitoredOutput final : public OutputBuffer {
 public:
  MonitoredOutput(std::unique_ptr<OutputBuffer> inner, std::vector<std::string> guests)
      : inner_(std::move(inner)), guests_(std::move(guests)) {}

  absl::Status Hold() override { return inner_->Hold(); }
  absl::Status Barrier() override { return inner_->Barrier(); }
  absl::Status ReleaseOne() override { return inner_->ReleaseOne(); }
  absl::Status OpenAll() override { return inner_->OpenAll(); }
  absl::Status Rebuild() override { return inner_->Rebuild(); }
  absl::Status Discard() override { return WithMonitors(inner_->Discard()); }
  absl::Status Remove() override { return WithMonitors(inner_->Remove()); }
  OutputStats stats() override { return inner_->stats(); }
  absl::Status Health() override { return inner_->Health(); }

 private:
  absl::Status WithMonitors(const absl::Status& status) {
    if (!status.ok()) return status;
    for (const std::string& guest : guests_) ContinueToolstackMonitors(guest);
    return status;
  }

  const std::unique_ptr<OutputBuffer> inner_;
  const std::vector<std::string> guests_;
};

// A domain that no other process has hold of for as long as this object is there, and whose end is
// nobody else's business from the beginning of a session on.
class HeldDomain final : public Domain {
 public:
  HeldDomain(UniqueFd hold, std::unique_ptr<Domain> inner)
      : hold_(std::move(hold)), inner_(std::move(inner)) {}

  const DomainInfo& info() const override { return inner_->info(); }
  const GuestMemory& memory() const override { return inner_->memory(); }
  absl::Status EnableLogDirty() override {
    StopToolstackMonitors(info().name);
    return inner_->EnableLogDirty();
  }
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    return inner_->FetchAndClearDirty(bitmap);
  }
  void DisableLogDirty() override { inner_->DisableLogDirty(); }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    return inner_->CaptureState(out);
  }
  size_t max_state_bytes() const override { return inner_->max_state_bytes(); }
  DomainEnd End() override { return inner_->End(); }
  absl::Status Destroy() override { return inner_->Destroy(); }

 private:
  const UniqueFd hold_;
  const std::unique_ptr<Domain> inner_;
};

absl::StatusOr<std::unique_ptr<OutputBuffer>> AttachOutput(const std::string& group,
                                                           const std::vector<uint32_t>& domains) {
  PlugSpec spec;
  spec.group = group;
  spec.domains = domains;
  for (const uint32_t domid : domains) {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> vifs, FindVifs(domid));
    spec.devices.insert(spec.devices.end(), vifs.begin(), vifs.end());
  }
  if (spec.devices.empty()) return std::make_unique<NoOutput>(domains);
  return PlugOutput::Attach(spec);
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
  std::vector<std::string> found;
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
    found.push_back(name);
    set.domains.push_back(
        std::make_unique<HeldDomain>(std::move(guest->hold), std::move(guest->domain)));
    set.suspends.push_back(std::move(guest->suspend));
  }
  if (domains.empty()) return absl::NotFoundError(absl::StrJoin(set.ended, "; "));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<OutputBuffer> output, AttachOutput(group, domains));
  set.output = std::make_unique<MonitoredOutput>(std::move(output), std::move(found));
  return set;
}

absl::StatusOr<BuiltReplica> BuildXenReplicaHere(const HelloDomain& domain,
                                                 const std::string& overrides) {
  HAVEN_ASSIGN_OR_RETURN(const XenReplicaOptions options, ParseXenReplicaOptions(overrides));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ReplicaHost> host, OpenReplicaHost());
  BuiltReplica built;
  HAVEN_ASSIGN_OR_RETURN(built.replica, BuildXenReplica(std::move(host), domain, options));
  built.name = options.name.empty() ? domain.name : options.name;
  return built;
}

}  // namespace haven
