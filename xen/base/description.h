// SPDX-License-Identifier: Apache-2.0
//
// What a backup must know about a guest on Xen to build a copy of it: DomainInfo::config of the
// primary, HelloDomain::config on the backup. From the network, so decoding trusts nothing.
//
// Bytes, little-endian: the text "xen:" (which tells kinds of guest apart), version u32, max_vcpus
// u32, run count u32, reserved u32, then the runs {first_gfn u64, pages u64}, the toolstack's
// configuration {length u32, JSON}, the CPUID policy {length u32, leaves}, the MSR policy {length
// u32, entries}, the first state {length u32, records of state.h}; in version 2, which a guest with
// a device model has, that one's version {length u32, text}. Nothing is padded or follows.
#ifndef HAVEN_XEN_BASE_DESCRIPTION_H_
#define HAVEN_XEN_BASE_DESCRIPTION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

inline constexpr char kXenConfigPrefix[] = "xen:";
inline constexpr uint32_t kXenDescriptionVersion = 1;
inline constexpr uint32_t kXenDescriptionVersionDeviceModel = 2;

// Decoding refuses more. The whole of a description must fit kMaxConfigBytes (control_message.h);
// an ordinary guest needs about 4 KiB.
inline constexpr uint32_t kMaxXenVcpus = 4096;  // kMaxHvmVcpus.
inline constexpr uint64_t kMaxXenGfn = (uint64_t{1} << 40) - 1;
inline constexpr uint64_t kMaxXenPages = uint64_t{1} << 32;  // kMaxDomainPages.
inline constexpr uint32_t kMaxXenFrameRuns = 2048;
inline constexpr size_t kMaxXenConfigJsonBytes = size_t{32} << 10;
inline constexpr size_t kMaxXenPolicyBytes = size_t{16} << 10;
inline constexpr size_t kMaxDeviceModelVersionBytes = 128;
// As the hypervisor's interface and the stream have them: xen_cpuid_leaf_t, xen_msr_entry_t.
inline constexpr size_t kXenCpuidLeafBytes = 24;
inline constexpr size_t kXenMsrEntryBytes = 16;

struct XenFrameRun {
  uint64_t first_gfn = 0;
  uint64_t pages = 0;

  friend bool operator==(const XenFrameRun&, const XenFrameRun&) = default;
};

struct XenDescription {
  uint32_t max_vcpus = 0;  // 1 .. kMaxXenVcpus.

  // Every frame that has a page of its own (page type "normal"), whether or not it takes part in
  // epochs: also the toolstack's special pages. Ascending, without overlap or touching, at least
  // one. The copy is built with exactly these.
  std::vector<XenFrameRun> frames;

  // libxl's JSON of the running domain (`xl list -l`, one element): 2 bytes at least.
  std::string config_json;

  std::vector<std::byte> cpuid_policy;  // Leaves of kXenCpuidLeafBytes, at least one.
  std::vector<std::byte> msr_policy;    // Entries of kXenMsrEntryBytes; may be empty.

  // A state (state.h) taken at any time: its TSC and parameters are those the copy is built with.
  // EncodeXenDescription() leaves the vCPUs and devices of its HVM context out (EmptyHvmContext).
  std::vector<std::byte> first_state;

  // The device model of an HVM guest: QEMU's version and package as it greets with them, printable.
  // Empty: it has none.
  std::string device_model;

  friend bool operator==(const XenDescription&, const XenDescription&) = default;
};

// Whether `config` is the beginning of a description of a guest on Xen.
bool IsXenDescription(absl::string_view config);

// InvalidArgument: a field breaks its rule above, or the whole is larger than kMaxConfigBytes.
absl::StatusOr<std::string> EncodeXenDescription(const XenDescription& description);

// InvalidArgument: as above, another version, cut off, bytes that follow. The JSON is not parsed
// (xen/backup/guest_config.h), the policies' content is for the hypervisor to judge.
absl::StatusOr<XenDescription> DecodeXenDescription(absl::string_view config);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_DESCRIPTION_H_
