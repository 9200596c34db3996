// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_HVM_CONFIG_H_
#define HAVEN_XEN_BASE_HVM_CONFIG_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace haven {

// What in the toolstack's configuration of an HVM guest speaks against protecting it, each with
// what to do about it; empty: nothing. Either its device model would have a state that is not in an
// epoch, or the setting makes the device model of whoever starts it run, read or connect to
// something: a backup takes configurations from the network, and libxl puts their texts on QEMU's
// command line as they are. So what is not known to be harmless is a reason, also a setting that
// Xen 4.17 (libxl_types.idl) does not know. What such a text may still name are a kernel, a
// ramdisk and disks, absolute paths all.
//
// `config` is the "config" of an element of `xl list -l`, with "c_info", "b_info" and the lists of
// devices; may be any JSON. Thread-safe.
std::vector<std::string> ReasonsAgainstHvm(const nlohmann::json& config);

// The same of a PVH guest, for whom the toolstack starts a QEMU only where a device wants one;
// which then gets the same texts.
std::vector<std::string> ReasonsAgainstPvh(const nlohmann::json& config);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_HVM_CONFIG_H_
