// SPDX-License-Identifier: Apache-2.0
//
// What a host does to its guests by itself, when another copy of them may run elsewhere. `root` is
// where the host's files are: "" but in tests.
#ifndef HAVEN_XEN_PRIMARY_HOST_ACTIONS_H_
#define HAVEN_XEN_PRIMARY_HOST_ACTIONS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace haven {

// The file by which the host starts a guest of this name when it boots; empty: none.
std::string AutostartFile(const std::string& root, const std::string& guest);

// The setting by which the host, when it shuts down, moves its guests away, or saves them to start
// them again when it boots, as "NAME=VALUE in FILE"; empty: none, or xendomains is disabled.
std::string ShutdownSetting(const std::string& root);

// Both as reasons not to have the guest, or a copy of it, on this host, each with what to do about
// it.
std::vector<std::string> ReasonsAgainstHost(const std::string& root, const std::string& guest);

// Whether the text of an xl configuration file gives this name to its guest.
bool XlConfigNames(absl::string_view text, absl::string_view guest);

// The setting, as "NAME=VALUE", in the text of a configuration of xendomains; empty: none.
std::string XendomainsSetting(absl::string_view text);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_HOST_ACTIONS_H_
