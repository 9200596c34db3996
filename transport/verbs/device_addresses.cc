// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/device_addresses.h"

#include <ifaddrs.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr char kSysfs[] = "/sys";
// One page is the most that a file of sysfs has.
constexpr size_t kMaxFileBytes = 4096;
// The last bytes of an InfiniBand interface's hardware address are a GID of its port.
constexpr size_t kGidDigits = 32;

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Empty if it can not be read: an unused place in the table of a port.
std::string ReadLine(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadBoundedFile(path, kMaxFileBytes);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

std::string WithoutColons(absl::string_view text) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(text), {{":", ""}});
}

// Interfaces that are ports of `device`: by name on Ethernet, by GID on InfiniBand.
std::set<std::string> InterfacesOf(const std::string& sysfs, const std::string& device,
                                   std::span<const InterfaceAddress> addresses) {
  std::set<std::string> interfaces;
  std::set<std::string> gids;
  const std::string ports = absl::StrCat(sysfs, "/class/infiniband/", device, "/ports");
  for (const std::string& port : NamesIn(ports)) {
    const std::string named = absl::StrCat(ports, "/", port, "/gid_attrs/ndevs");
    for (const std::string& index : NamesIn(named)) {
      interfaces.insert(ReadLine(absl::StrCat(named, "/", index)));
    }
    const std::string table = absl::StrCat(ports, "/", port, "/gids");
    for (const std::string& index : NamesIn(table)) {
      gids.insert(WithoutColons(ReadLine(absl::StrCat(table, "/", index))));
    }
  }
  for (const InterfaceAddress& one : addresses) {
    const std::string hardware =
        WithoutColons(ReadLine(absl::StrCat(sysfs, "/class/net/", one.interface, "/address")));
    if (hardware.size() <= kGidDigits) continue;
    if (gids.contains(hardware.substr(hardware.size() - kGidDigits))) {
      interfaces.insert(one.interface);
    }
  }
  return interfaces;
}

absl::StatusOr<std::vector<DeviceAddress>> DeviceAddressesHere() {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<InterfaceAddress> addresses, ReadInterfaceAddresses());
  return FindDeviceAddresses(kSysfs, addresses);
}

}  // namespace

absl::StatusOr<std::vector<InterfaceAddress>> ReadInterfaceAddresses() {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return absl::ErrnoToStatus(errno, "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(all, freeifaddrs);
  std::vector<InterfaceAddress> result;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    const absl::StatusOr<InetAddress> address = InetAddress::FromSockaddr(one->ifa_addr);
    if (!address.ok() || !address->IsUnicast() || address->IsLoopback()) continue;
    result.push_back({one->ifa_name, address->WithPort(0)});
  }
  return result;
}

std::vector<DeviceAddress> FindDeviceAddresses(const std::string& sysfs,
                                               std::span<const InterfaceAddress> addresses) {
  std::vector<DeviceAddress> result;
  for (const std::string& device : NamesIn(absl::StrCat(sysfs, "/class/infiniband"))) {
    const std::set<std::string> interfaces = InterfacesOf(sysfs, device, addresses);
    for (const InterfaceAddress& one : addresses) {
      if (interfaces.contains(one.interface)) result.push_back({device, one.address});
    }
  }
  return result;
}

std::string DescribeDeviceAddresses() {
  const absl::StatusOr<std::vector<DeviceAddress>> devices = DeviceAddressesHere();
  if (!devices.ok()) return std::string(devices.status().message());
  if (devices->empty()) return "no RDMA device of this host owns an address (rdma link show)";
  return absl::StrCat("there are ",
                      absl::StrJoin(*devices, ", ", [](std::string* out, const DeviceAddress& one) {
                        absl::StrAppend(out, one.device, " at ", one.address.Host());
                      }));
}

absl::StatusOr<InetAddress> AddressOfDevice(absl::string_view device, const InetAddress& like) {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<DeviceAddress> devices, DeviceAddressesHere());
  std::optional<InetAddress> found;
  for (const DeviceAddress& one : devices) {
    if (absl::string_view(one.device) != device) continue;
    if (one.address.family() == like.family()) return one.address;
    if (!found.has_value()) found = one.address;
  }
  if (found.has_value()) return *found;
  return absl::NotFoundError(
      absl::StrCat("RDMA device ", device, " owns no address here: ", DescribeDeviceAddresses()));
}

}  // namespace haven
