// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_AFTER_RUN_H_
#define HAVEN_XEN_BACKUP_AFTER_RUN_H_

#include <cstdint>
#include <memory>

#include "engine/base/thread.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/replica_host.h"

namespace haven {

// What a guest that has just begun to run can do without for a moment: the network learns where it
// is, and the domain gets its name and may be suspended again. On a thread of its own, which goes
// on after this object, for a few minutes at most, while the process lives: the guard of the guest
// follows in it. Where no thread can be started, at once and once. What fails is logged.
class AfterRun {
 public:
  // From here on `host` is used by this object's thread alone.
  AfterRun(std::unique_ptr<ReplicaHost> host, uint32_t domid, GuestConfig config);
  // Waits until all was said to the store once, as a guard looks for the guest there. What the
  // store did not take is said again, and announcements still to come are made, without this.
  ~AfterRun();
  AfterRun(const AfterRun&) = delete;
  AfterRun& operator=(const AfterRun&) = delete;

 private:
  class Work;

  const std::shared_ptr<Work> work_;
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_AFTER_RUN_H_
