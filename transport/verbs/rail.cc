// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/verbs/device_addresses.h"

namespace haven {

absl::StatusOr<std::unique_ptr<Rail>> Rail::Open(DeviceRegistry& registry, const InetAddress& local,
                                                 const std::vector<std::unique_ptr<Rail>>& others) {
  HAVEN_ASSIGN_OR_RETURN(DeviceRegistry::Port port, registry.Open(local));
  if (port.device == nullptr) {
    return absl::NotFoundError(absl::StrCat("no RDMA device owns address ", local.Host(), ": ",
                                            DescribeDeviceAddresses(),
                                            "; name one with dev= or connect by its address"));
  }
  std::unique_ptr<Rail> rail(new Rail(local.WithPort(0), std::move(port.device)));
  HAVEN_RETURN_IF_ERROR(rail->Set(port.number, others));
  return rail;
}

absl::Status Rail::Set(uint8_t port, const std::vector<std::unique_ptr<Rail>>& others) {
  HAVEN_ASSIGN_OR_RETURN(facts_, QueryDevice(device_->context(), port));
  HAVEN_ASSIGN_OR_RETURN(limits_, LimitsOf(facts_));
  for (const std::unique_ptr<Rail>& other : others) {
    if (other->IsOn(*device_)) pd_ = other->pd();
  }
  if (pd_ != nullptr) return absl::OkStatus();
  ibv_pd* const pd = ibv_alloc_pd(device_->context());
  if (pd == nullptr) return CmError(absl::StrCat("a protection domain of ", facts_.name));
  pd_ = std::shared_ptr<ibv_pd>(pd, [device = device_](ibv_pd* one) { ibv_dealloc_pd(one); });
  return absl::OkStatus();
}

std::shared_ptr<ibv_pd> Rail::pd() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pd_;
}

absl::StatusOr<std::shared_ptr<ibv_pd>> Rail::OpenPd() const {
  std::shared_ptr<ibv_pd> open = pd();
  if (open != nullptr) return open;
  return absl::UnavailableError(absl::StrCat(Describe(), " was removed from this host"));
}

bool Rail::IsOn(const RdmaDevice& device) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return device_.get() == &device;
}

void Rail::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  pd_.reset();
  device_.reset();
}

std::string Rail::Describe() const {
  return absl::StrCat(facts_.name, " port ", facts_.port, " at ", local_.Host(), ", MTU ",
                      limits_.mtu_bytes);
}

}  // namespace haven
