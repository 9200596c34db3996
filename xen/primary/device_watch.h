// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_DEVICE_WATCH_H_
#define HAVEN_XEN_PRIMARY_DEVICE_WATCH_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xen/base/store.h"

namespace haven {

// The devices that the toolstack has given a guest, and whether it still has the same: number and
// kind of each, and the hardware address of a NIC, by which one that was replaced is told. Read
// from the toolstack's own part of the store (/libxl/DOMID/device), in which no guest can write.
// One thread.
class DeviceWatch {
 public:
  // `store` is a handle for this alone; its patience is what a Changed() waits at most. `patient`
  // is asked here, and not kept. Errors of XenStore::Watch, List and Read.
  static absl::StatusOr<std::unique_ptr<DeviceWatch>> Create(std::unique_ptr<XenStore> store,
                                                             XenStore& patient, uint32_t domid);

  // Empty while they are the same, as far as is known; else what has changed, "vif/0 to vif/0
  // vif/1". Without news from the store that is all it looks for; with some it asks the store for
  // one thing at each call, and what it was not told it asks for again.
  const std::string& Changed();

 private:
  DeviceWatch(std::unique_ptr<XenStore> store, uint32_t domid);

  void Begin();
  // The next question. Error: not answered, it stands.
  absl::Status Ask(XenStore& store);

  const std::unique_ptr<XenStore> store_;
  const std::string path_;
  std::vector<std::string> first_;
  std::vector<std::string> found_;
  // Entries below path_ that are to be looked at; "" is path_ itself.
  std::deque<std::string> questions_;
  std::string changed_;
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_DEVICE_WATCH_H_
