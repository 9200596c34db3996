// SPDX-License-Identifier: Apache-2.0
#include "xen/output/domains_output.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/output/plug_devices.h"
#include "xen/output/vif_names.h"

namespace haven {

DomainsOutput::DomainsOutput(const PlugSpec& spec, Sockets sockets,
                             std::unique_ptr<NetlinkSocket> looks, const Clock& clock)
    : spec_(spec),
      sockets_(std::move(sockets)),
      clock_(clock),
      channel_(std::move(looks), clock, spec.timeout_ns) {}

absl::StatusOr<std::unique_ptr<DomainsOutput>> DomainsOutput::Attach(const PlugSpec& spec,
                                                                     Sockets sockets,
                                                                     const Clock& clock) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<NetlinkSocket> looks, sockets.requests());
  std::unique_ptr<DomainsOutput> output(
      new DomainsOutput(spec, std::move(sockets), std::move(looks), clock));
  HAVEN_ASSIGN_OR_RETURN(std::vector<std::string> nics, FindNics(output->channel_, spec.domains));
  HAVEN_RETURN_IF_ERROR(output->Serve(std::move(nics)));
  return output;
}

absl::StatusOr<std::unique_ptr<DomainsOutput>> DomainsOutput::Attach(const PlugSpec& spec) {
  return Attach(spec, {OpenNetlinkRequests, OpenNetlinkEvents}, SystemClock::Get());
}

absl::Status DomainsOutput::Serve(std::vector<std::string> nics) {
  std::unique_ptr<PlugOutput> next;
  if (!nics.empty()) {
    PlugSpec spec = spec_;
    spec.devices = nics;
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<NetlinkSocket> requests, sockets_.requests());
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<NetlinkSocket> events,
                           sockets_.events(requests->port()));
    HAVEN_ASSIGN_OR_RETURN(
        next, PlugOutput::Attach(spec, std::move(requests), std::move(events), clock_));
  }
  if (inner_ != nullptr) {
    const OutputStats counted = inner_->stats();
    before_.released_packets += counted.released_packets;
    before_.dropped_packets += counted.dropped_packets;
    before_.longest_held_ns = std::max(before_.longest_held_ns, counted.longest_held_ns);
  }
  inner_ = std::move(next);
  nics_ = std::move(nics);
  intact_ns_ = clock_.NowNs();
  return absl::OkStatus();
}

absl::Status DomainsOutput::Follow() {
  HAVEN_ASSIGN_OR_RETURN(std::vector<std::string> nics, FindNics(channel_, spec_.domains));
  return nics == nics_ ? absl::OkStatus() : Serve(std::move(nics));
}

absl::Status DomainsOutput::Prepare() {
  if (holding_) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(Follow());
  return inner_ != nullptr ? inner_->Prepare() : absl::OkStatus();
}

absl::Status DomainsOutput::Hold() {
  if (holding_) return Health();
  HAVEN_RETURN_IF_ERROR(Follow());
  HAVEN_RETURN_IF_ERROR(inner_ != nullptr ? inner_->Hold() : RemoveQueues());
  intact_ns_ = clock_.NowNs();
  holding_ = true;
  return absl::OkStatus();
}

absl::Status DomainsOutput::Barrier() {
  return inner_ != nullptr ? inner_->Barrier() : absl::OkStatus();
}

absl::Status DomainsOutput::ReleaseOne() {
  return inner_ != nullptr ? inner_->ReleaseOne() : absl::OkStatus();
}

absl::Status DomainsOutput::OpenAll() {
  holding_ = false;
  return inner_ != nullptr ? inner_->OpenAll() : RemoveQueues();
}

absl::Status DomainsOutput::Discard() {
  holding_ = false;
  return inner_ != nullptr ? inner_->Discard() : RemoveQueues();
}

absl::Status DomainsOutput::Remove() {
  return inner_ != nullptr ? inner_->Remove() : RemoveQueues();
}

// A buffer that has NICs before and after follows them by itself, and keeps what it holds.
absl::Status DomainsOutput::Rebuild() {
  HAVEN_ASSIGN_OR_RETURN(std::vector<std::string> nics, FindNics(channel_, spec_.domains));
  if (inner_ != nullptr && !nics.empty()) {
    HAVEN_RETURN_IF_ERROR(inner_->Rebuild());
    nics_ = std::move(nics);
    holding_ = true;
    return absl::OkStatus();
  }
  // Nobody is left to go on with what was held.
  if (inner_ != nullptr) HAVEN_RETURN_IF_ERROR(inner_->Discard());
  HAVEN_RETURN_IF_ERROR(Serve(std::move(nics)));
  holding_ = false;
  return Hold();
}

OutputStats DomainsOutput::stats() {
  OutputStats sum = inner_ != nullptr ? inner_->stats() : OutputStats();
  sum.released_packets += before_.released_packets;
  sum.dropped_packets += before_.dropped_packets;
  sum.longest_held_ns = std::max(sum.longest_held_ns, before_.longest_held_ns);
  return sum;
}

absl::Status DomainsOutput::Health() {
  if (inner_ != nullptr) return inner_->Health();
  if (!holding_) return absl::OkStatus();
  const int64_t now_ns = clock_.NowNs();
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> nics, FindNics(channel_, spec_.domains));
  if (nics.empty()) {
    intact_ns_ = now_ns;
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "output buffer of ", spec_.group, ": the NIC ", nics.front(),
      " has come and is not held yet; it was not there ", (now_ns - intact_ns_) / kNsPerMs,
      " ms ago, and output may have left uncommitted since then"));
}

// Of a group without NICs: nobody sends any more, or nobody ever did.
absl::Status DomainsOutput::RemoveQueues() { return PlugDevices(spec_, channel_).DeleteQueues(); }

}  // namespace haven
