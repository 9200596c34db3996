// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_DEVICE_ADDRESSES_H_
#define HAVEN_TRANSPORT_VERBS_DEVICE_ADDRESSES_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/tls/inet_address.h"

namespace haven {

struct InterfaceAddress {
  std::string interface;
  InetAddress address;
};

struct DeviceAddress {
  std::string device;
  InetAddress address;
};

// The unicast addresses of this host's network interfaces.
absl::StatusOr<std::vector<InterfaceAddress>> ReadInterfaceAddresses();

// Which of the addresses belong to RDMA devices, by what the kernel says in `sysfs`. The connection
// manager is not asked: it would open every device, and a device that this process holds open for
// nothing can not be removed.
std::vector<DeviceAddress> FindDeviceAddresses(const std::string& sysfs,
                                               std::span<const InterfaceAddress> addresses);

// An address that `device` owns, of the family of `like` if there is one. NotFound: no such device
// or it owns no address, with those that there are.
absl::StatusOr<InetAddress> AddressOfDevice(absl::string_view device, const InetAddress& like);

// For messages: "there are rxe0 at 10.9.1.1, rxe1 at 10.9.2.1".
std::string DescribeDeviceAddresses();

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_DEVICE_ADDRESSES_H_
