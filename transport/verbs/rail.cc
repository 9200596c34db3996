// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail.h"

#include <ifaddrs.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

struct DeviceAddress {
  std::string device;
  InetAddress address;
};

// Binds to `address`; null if no RDMA device owns it.
absl::StatusOr<UniqueCmId> Bind(CmChannel& channel, const InetAddress& address) {
  HAVEN_ASSIGN_OR_RETURN(UniqueCmId id, channel.MakeId());
  InetAddress local = address.WithPort(0);
  if (rdma_bind_addr(id.get(), local.mutable_sockaddr()) != 0) {
    if (errno == ENODEV || errno == EADDRNOTAVAIL || errno == EINVAL) return UniqueCmId();
    return CmError(absl::StrCat("bind RDMA to ", address.Host()));
  }
  if (id->verbs == nullptr) return UniqueCmId();
  return id;
}

// Which addresses of this host belong to RDMA devices.
absl::StatusOr<std::vector<DeviceAddress>> ListDeviceAddresses() {
  HAVEN_ASSIGN_OR_RETURN(CmChannel channel, CmChannel::Open());
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return CmError("getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(all, freeifaddrs);
  std::vector<DeviceAddress> result;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const absl::StatusOr<InetAddress> address = InetAddress::FromSockaddr(one->ifa_addr);
    if (!address.ok() || !address->IsUnicast() || address->IsLoopback()) continue;
    HAVEN_ASSIGN_OR_RETURN(const UniqueCmId id, Bind(channel, *address));
    if (id == nullptr) continue;
    result.push_back({ibv_get_device_name(id->verbs->device), address->WithPort(0)});
  }
  return result;
}

std::string TheList(const std::vector<DeviceAddress>& devices) {
  if (devices.empty()) return "no RDMA device of this host owns an address (rdma link show)";
  return absl::StrCat("there are ",
                      absl::StrJoin(devices, ", ", [](std::string* out, const DeviceAddress& one) {
                        absl::StrAppend(out, one.device, " at ", one.address.Host());
                      }));
}

}  // namespace

absl::StatusOr<InetAddress> AddressOfDevice(absl::string_view device, const InetAddress& like) {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<DeviceAddress> devices, ListDeviceAddresses());
  std::optional<InetAddress> found;
  for (const DeviceAddress& one : devices) {
    if (absl::string_view(one.device) != device) continue;
    if (one.address.family() == like.family()) return one.address;
    if (!found.has_value()) found = one.address;
  }
  if (found.has_value()) return *found;
  return absl::NotFoundError(
      absl::StrCat("RDMA device ", device, " owns no address here: ", TheList(devices)));
}

absl::StatusOr<std::unique_ptr<Rail>> Rail::Open(const InetAddress& local,
                                                 const std::vector<std::unique_ptr<Rail>>& others) {
  HAVEN_ASSIGN_OR_RETURN(CmChannel channel, CmChannel::Open());
  HAVEN_ASSIGN_OR_RETURN(UniqueCmId bound, Bind(channel, local));
  if (bound == nullptr) {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<DeviceAddress> devices, ListDeviceAddresses());
    return absl::NotFoundError(absl::StrCat("no RDMA device owns address ", local.Host(), ": ",
                                            TheList(devices),
                                            "; name one with dev= or connect by its address"));
  }
  std::unique_ptr<Rail> rail(new Rail(local.WithPort(0), std::move(channel), std::move(bound)));
  HAVEN_ASSIGN_OR_RETURN(rail->facts_, QueryDevice(rail->context(), rail->bound_->port_num));
  HAVEN_ASSIGN_OR_RETURN(rail->limits_, LimitsOf(rail->facts_));
  for (const std::unique_ptr<Rail>& other : others) {
    if (other->context() == rail->context()) rail->pd_ = other->pd_;
  }
  if (rail->pd_ == nullptr) {
    ibv_pd* const pd = ibv_alloc_pd(rail->context());
    if (pd == nullptr) return CmError(absl::StrCat("a protection domain of ", rail->device()));
    rail->pd_ = std::shared_ptr<ibv_pd>(pd, [](ibv_pd* one) { ibv_dealloc_pd(one); });
  }
  return rail;
}

std::string Rail::Describe() const {
  return absl::StrCat(facts_.name, " port ", facts_.port, " at ", local_.Host(), ", MTU ",
                      limits_.mtu_bytes);
}

}  // namespace haven
