// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_GUEST_DEVICE_MODEL_H_
#define HAVEN_XEN_PRIMARY_GUEST_DEVICE_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "xen/base/device_model.h"
#include "xen/base/store.h"

namespace haven {

// The device model of a guest of this host, running; null: it has none. To `replicate` it must be
// reached: errors of QemuDeviceModel::Open(), naming the guest. A process that only lets the guest
// go on does so without it, too, and warns. Errors of `store`.
absl::StatusOr<std::shared_ptr<DeviceModel>> OpenGuestDeviceModel(const std::string& name,
                                                                  uint32_t domid, XenStore& store,
                                                                  bool replicate);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_GUEST_DEVICE_MODEL_H_
