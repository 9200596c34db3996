// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/guest_device_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/log.h"
#include "engine/control/time_limit.h"
#include "xen/base/qmp_channel.h"
#include "xen/primary/qemu_device_model.h"

namespace haven {

namespace {

// To greet: it serves one client at a time, and `xentop` may be one.
constexpr absl::Duration kGreetingTimeout = absl::Seconds(3);

}  // namespace

absl::StatusOr<std::shared_ptr<DeviceModel>> OpenGuestDeviceModel(const std::string& name,
                                                                  uint32_t domid, XenStore& store,
                                                                  bool replicate) {
  const absl::StatusOr<std::string> type = store.Read(absl::StrCat("/libxl/", domid, "/type"));
  if (!type.ok() && !absl::IsNotFound(type.status())) return type.status();
  if (!type.ok() || *type != "hvm") return nullptr;
  absl::StatusOr<std::unique_ptr<QemuDeviceModel>> model = QemuDeviceModel::Open(
      QmpSocketPath(domid), {.guest = name, .saves = replicate}, TimeLimit(kGreetingTimeout));
  if (model.ok()) return std::shared_ptr<DeviceModel>(*std::move(model));
  const std::string cause = absl::StrCat("guest ", name, ": its device model (QEMU, domain ", domid,
                                         ") can not be reached: ", model.status().message());
  if (replicate) return absl::Status(model.status().code(), cause);
  HAVEN_LOG(kWarning, "xen") << cause << "; if it stands still it stays so";
  return nullptr;
}

}  // namespace haven
