// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/build_xen_replica.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/control/time_limit.h"
#include "xen/backup/feed_toolstack.h"

namespace haven {
namespace {

uint64_t PagesOf(const XenDescription& description) {
  uint64_t pages = 0;
  for (const XenFrameRun& run : description.frames) pages += run.pages;
  return pages;
}

// The bitmap of the frames that are part of epochs, all of which the copy must have.
absl::StatusOr<std::vector<uint64_t>> RamOf(const HelloDomain& domain,
                                            const XenDescription& description) {
  if (domain.page_count > kMaxXenGfn + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_count is ", domain.page_count, ", must be at most ", kMaxXenGfn + 1));
  }
  std::vector<uint64_t> ram(static_cast<size_t>((domain.page_count + 63) / 64));
  auto frames = description.frames.begin();
  for (const RamRun& run : domain.ram) {
    const uint64_t end = run.first_gfn + run.pages;
    while (frames != description.frames.end() && frames->first_gfn + frames->pages <= run.first_gfn)
      ++frames;
    if (frames == description.frames.end() || frames->first_gfn > run.first_gfn ||
        frames->first_gfn + frames->pages < end || end > domain.page_count) {
      return absl::InvalidArgumentError(
          absl::StrFormat("frames %#x to %#x are said to be RAM, but not described as frames with "
                          "a page",
                          run.first_gfn, end - 1));
    }
    for (uint64_t gfn = run.first_gfn; gfn < end; ++gfn) ram[gfn / 64] |= uint64_t{1} << (gfn % 64);
  }
  return ram;
}

// What would fail later, with a worse message.
absl::Status CheckHost(ReplicaHost& host, const GuestConfig& config) {
  for (const GuestNic& nic : config.nics) {
    if (nic.bridge.empty()) continue;
    const absl::Status found = host.CheckBridge(nic.bridge);
    if (absl::IsNotFound(found)) {
      return absl::FailedPreconditionError(
          absl::StrCat(found.message(), ": make it, or map it to another by bridge:", nic.bridge,
                       "=NAME in the backup's options"));
    }
    HAVEN_RETURN_IF_ERROR(found);
  }
  for (const std::string& file : {config.kernel, config.ramdisk}) {
    if (file.empty()) continue;
    const absl::Status found = host.CheckFile(file);
    if (absl::IsNotFound(found)) {
      return absl::FailedPreconditionError(
          absl::StrCat(found.message(), ", from which the guest boots (",
                       file == config.kernel ? "kernel" : "ramdisk",
                       "): copy it from the original's host to the same place"));
    }
    HAVEN_RETURN_IF_ERROR(found);
  }
  const absl::StatusOr<uint32_t> other = host.FindDomain(config.WaitingName());
  if (absl::IsNotFound(other.status())) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(other.status());
  return absl::AlreadyExistsError(
      absl::StrCat("domain ", *other, " is called ", config.WaitingName(),
                   ": a copy waits here already. If no session of haven-engine holds it, remove it "
                   "by `xl destroy ",
                   *other, "`"));
}

// Lets the receiver take down what it has begun. What it leaves, since it hangs or was killed, is
// destroyed without it: else no later build could begin.
void TakeDown(ReplicaHost& host, const std::string& waiting_name, ToolstackChild& toolstack,
              const XenReplicaOptions& options) {
  toolstack.CloseStdin();
  const absl::StatusOr<int> ended = toolstack.Wait(TimeLimit(options.destroy_timeout));
  // One that ended by itself has left nothing: what has the name now is somebody else's.
  constexpr int kFirstBySignal = 128;
  if (ended.ok() && *ended < kFirstBySignal) return;
  if (!ended.ok()) {
    toolstack.Kill().IgnoreError();
    toolstack.Wait(TimeLimit(absl::Seconds(1))).status().IgnoreError();
  }
  const absl::StatusOr<uint32_t> left = host.FindDomain(waiting_name);
  if (left.ok()) DestroyLeftCopy(host, options, waiting_name, *left).IgnoreError();
}

// Why the toolstack failed, in its words; too little memory has a code of its own.
absl::Status Explain(ReplicaHost& host, uint64_t pages, const absl::Status& cause,
                     const ToolstackChild& toolstack) {
  // It has not failed: it was stopped.
  if (absl::IsFailedPrecondition(cause)) return cause;
  const std::string said = absl::StrCat(cause.message(), ". It says: ", toolstack.Messages());
  const absl::StatusOr<uint64_t> free = host.FreeMemoryBytes();
  const uint64_t needed = pages * kPageBytes;
  if (free.ok() && *free < needed) {
    return absl::ResourceExhaustedError(absl::StrCat("the copy needs ", needed >> 20,
                                                     " MiB of memory, this host has ", *free >> 20,
                                                     " MiB free: ", said));
  }
  if (absl::IsDeadlineExceeded(cause)) return absl::DeadlineExceededError(said);
  return absl::FailedPreconditionError(said);
}

absl::StatusOr<std::unique_ptr<XenReplica>> Build(std::unique_ptr<ReplicaHost> host,
                                                  const HelloDomain& domain,
                                                  const XenReplicaOptions& options) {
  HAVEN_ASSIGN_OR_RETURN(XenDescription description, DecodeXenDescription(domain.config));
  const TimeLimit limit(options.build_timeout +
                        absl::Nanoseconds(LongestBuildNs(PagesOf(description))));
  HAVEN_ASSIGN_OR_RETURN(GuestConfig config, MapGuestConfig(description.config_json, options,
                                                            !description.device_model.empty()));
  HAVEN_ASSIGN_OR_RETURN(std::vector<uint64_t> ram, RamOf(domain, description));
  HAVEN_RETURN_IF_ERROR(CheckHost(*host, config));
  std::vector<std::string> command = options.toolstack;
  command.push_back("migrate-receive");
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ToolstackChild> toolstack,
                         ToolstackChild::Start(std::move(command)));
  absl::StatusOr<FedCopy> copy = FeedToolstack(*host, *toolstack, description, config, limit);
  if (!copy.ok()) {
    TakeDown(*host, config.WaitingName(), *toolstack, options);
    return Explain(*host, PagesOf(description), copy.status(), *toolstack);
  }
  XenReplica::Parts parts;
  parts.config = std::move(config);
  parts.description = std::move(description);
  parts.options = options;
  parts.domid = copy->domid;
  parts.host = std::move(host);
  parts.toolstack = std::move(toolstack);
  parts.device_model = std::move(copy->device_model);
  auto replica = std::make_unique<XenReplica>(std::move(parts));
  HAVEN_RETURN_IF_ERROR(replica->Map(std::move(ram), domain.page_count));
  return replica;
}

}  // namespace

absl::StatusOr<std::unique_ptr<XenReplica>> BuildXenReplica(std::unique_ptr<ReplicaHost> host,
                                                            const HelloDomain& domain,
                                                            const XenReplicaOptions& options) {
  absl::StatusOr<std::unique_ptr<XenReplica>> replica = Build(std::move(host), domain, options);
  if (replica.ok()) return replica;
  return absl::Status(replica.status().code(),
                      absl::StrCat("the copy of guest ", domain.name,
                                   " can not be built: ", replica.status().message()));
}

}  // namespace haven
