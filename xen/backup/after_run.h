// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_AFTER_RUN_H_
#define HAVEN_XEN_BACKUP_AFTER_RUN_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "engine/base/thread.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/replica_host.h"

namespace haven {

// What a guest that has just begun to run can do without for a moment: the network learns where it
// is, and the domain gets its name and may be suspended again. On a thread of its own, or at once
// where none can be started; what fails is logged.
class AfterRun {
 public:
  // From here on `host` is used by this object alone.
  AfterRun(std::unique_ptr<ReplicaHost> host, uint32_t domid, GuestConfig config);
  // Waits until all is said in the store; announcements still to come are left out.
  ~AfterRun();
  AfterRun(const AfterRun&) = delete;
  AfterRun& operator=(const AfterRun&) = delete;

 private:
  void Work();
  void Announce();
  bool StopWithin(int64_t ms);

  const std::unique_ptr<ReplicaHost> host_;
  const uint32_t domid_;
  const GuestConfig config_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;  // Under mutex_.
  Thread thread_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_AFTER_RUN_H_
