// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_NIC_BRIDGES_H_
#define HAVEN_XEN_PRIMARY_NIC_BRIDGES_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace haven {

// A guest's configuration (ParseXlList) in which every NIC on a bridge names it: the toolstack
// leaves out the one that it has chosen itself. `bridge_of` says where a NIC of this number is, or
// nothing. NICs that another script than the one for bridges attaches stay as they are, and so does
// what is no configuration.
std::string WithBridges(absl::string_view config_json,
                        const std::function<std::string(uint64_t nic)>& bridge_of);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_NIC_BRIDGES_H_
