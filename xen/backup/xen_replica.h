// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_XEN_REPLICA_H_
#define HAVEN_XEN_BACKUP_XEN_REPLICA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backup/replica_domain.h"
#include "xen/backup/after_run.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/held_device_model.h"
#include "xen/backup/replica_host.h"
#include "xen/backup/replica_options.h"
#include "xen/backup/toolstack_child.h"
#include "xen/base/description.h"
#include "xen/base/guest_mapping.h"
#include "xen/base/state.h"

namespace haven {

// ReplicaDomain: a domain that the toolstack has finished and holds paused, waiting for permission
// to go, which we never give. The toolstack's process is what destroys the copy when we die: it
// reads end-of-file. To let the copy run we end that process first, since it would destroy the
// running guest as well, and then take the pause away ourselves; so the guest does not wait for the
// toolstack to rename it, and a name that is taken costs the guest its name and not its life.
class XenReplica final : public ReplicaDomain {
 public:
  struct Parts {
    GuestConfig config;
    XenDescription description;
    XenReplicaOptions options;
    uint32_t domid = 0;
    std::unique_ptr<ReplicaHost> host;
    std::unique_ptr<ToolstackChild> toolstack;  // It has said that the domain is ready.
    // Waits; null exactly if the description has none.
    std::unique_ptr<HeldDeviceModel> device_model;
  };
  // The description's first state is sound, and there is a device model if it says so (checked).
  explicit XenReplica(Parts parts);
  ~XenReplica() override;

  // Maps the frames of `ram`, one bit for each of `frame_count`, writable. Once, before anything
  // else. Errors of the host and of GuestMapping::Create.
  absl::Status Map(std::vector<uint64_t> ram, uint64_t frame_count);

  const GuestMemory& memory() const override;
  // Aborted if the copy has been taken away under us: destroyed, or let run, or its toolstack's
  // process was killed, or its device model has died.
  absl::Status CheckState(std::span<const std::byte> state) const override;
  // A device model loads one state only: where there is one, Internal also after the first call
  // that came as far as handing it over.
  absl::Status Prepare(std::span<const std::byte> state) override;
  // Kills the toolstack's process.
  absl::Status Outlive() override;
  absl::Status Run() override;
  // FailedPrecondition after Run(). Blocks for the toolstack's destruction of the copy, devices
  // included, but no longer than twice its limit.
  absl::Status Abandon() override;

  uint32_t domid() const { return parts_.domid; }
  // Not after Run().
  pid_t toolstack_pid() const { return parts_.toolstack->pid(); }

 private:
  absl::Status CheckStillWaits() const;
  absl::Status SetGuestParams(const XenState& state);
  absl::StatusOr<XenState> Parse(std::span<const std::byte> bytes) const;

  Parts parts_;
  const XenState first_state_;             // Views parts_.
  XenState params_set_;                    // Whose parameters the copy has.
  std::unique_ptr<GuestMapping> mapping_;  // Until Abandon().
  const GuestMemory none_;
  bool running_ = false;
  bool abandoned_ = false;
  std::unique_ptr<AfterRun> after_run_;
};

// Destroys a copy whose toolstack's process can not do it any more: by the toolstack, devices
// included, else by the hypervisor alone.
absl::Status DestroyLeftCopy(ReplicaHost& host, const XenReplicaOptions& options,
                             const std::string& guest, uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_XEN_REPLICA_H_
