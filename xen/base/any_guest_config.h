// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_ANY_GUEST_CONFIG_H_
#define HAVEN_XEN_BASE_ANY_GUEST_CONFIG_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace haven {

// What holds for guests with and without a device model of their own (`hvm`): adds a reason for
// each setting with which the toolstack would run, read or connect to something for the guest, or
// that is not known to be harmless. A guest without one has a QEMU as soon as it has a device that
// QEMU serves (a disk in a file, a shared directory), on whose command line are the same texts.
// Thread-safe.
void CheckAnyGuest(const nlohmann::json& config, bool hvm, std::vector<std::string>& reasons);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_ANY_GUEST_CONFIG_H_
