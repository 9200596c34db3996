// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_REPLICA_HOST_H_
#define HAVEN_XEN_BACKUP_REPLICA_HOST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/held_device_model.h"
#include "xen/base/foreign_mapper.h"
#include "xen/base/state.h"

namespace haven {

// What a copy needs of hypervisor, store and network of its host. One thread at a time. Errors name
// domain and call: Unavailable, this host runs no Xen or does not answer; Internal, it refused.
class ReplicaHost {
 public:
  virtual ~ReplicaHost() = default;

  // The domain that the toolstack calls `name`. NotFound: there is none that is not kGone.
  virtual absl::StatusOr<uint32_t> FindDomain(const std::string& name) = 0;

  enum class DomainState : uint8_t {
    kGone,     // Or dying: it will never run again.
    kWaiting,  // Paused by the toolstack.
    kRunning,
  };
  // One hypercall.
  virtual absl::StatusOr<DomainState> StateOf(uint32_t domid) = 0;

  virtual absl::StatusOr<std::unique_ptr<ForeignMapper>> MapperFor(uint32_t domid) = 0;

  virtual absl::Status SetTsc(uint32_t domid, const XenTscInfo& tsc) = 0;
  virtual absl::Status SetHvmParam(uint32_t domid, const HvmParam& param) = 0;
  virtual absl::Status SetHvmContext(uint32_t domid, std::span<const std::byte> context) = 0;
  // Takes the toolstack's pause away.
  virtual absl::Status Unpause(uint32_t domid) = 0;
  // Puts it back.
  virtual absl::Status Pause(uint32_t domid) = 0;
  // The hypervisor's part, and the device model's process: entries in the store and other devices
  // stay.
  virtual absl::Status Destroy(uint32_t domid) = 0;

  // Calls it `name` from now on; whoever looks for the guest as one of ours finds it so in any case
  // (xen/base/guest_name.h). Idempotent. AlreadyExists: another domain is called so.
  virtual absl::Status Rename(uint32_t domid, const std::string& name) = 0;

  // Says in the store that the guest can be suspended. A guest says so once, when it boots, and the
  // toolstack does not carry it over; without it a promoted guest could not be protected again.
  virtual absl::Status OfferSuspend(uint32_t domid) = 0;

  // Bytes that a new domain could have without taking from another.
  virtual absl::StatusOr<uint64_t> FreeMemoryBytes() = 0;

  // OK if there is such a bridge; NotFound.
  virtual absl::Status CheckBridge(const std::string& bridge) = 0;

  // OK if there is such a file; NotFound.
  virtual absl::Status CheckFile(const std::string& path) = 0;

  // Of the domain that the toolstack calls `name`, whether they exist or not.
  virtual DeviceModelFiles FilesOfDeviceModel(uint32_t domid, const std::string& name) const = 0;

  // Tells the toolstack that the domain's device model is up, in the words of the latter, which
  // does not say so itself before it has a state.
  virtual absl::Status SayDeviceModelRuns(uint32_t domid) = 0;

  // Tells the network behind the NIC's bridge that its MAC address is here now, by one RARP frame.
  virtual absl::Status Announce(const GuestNic& nic) = 0;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_REPLICA_HOST_H_
