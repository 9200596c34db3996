// SPDX-License-Identifier: Apache-2.0
//
// States and descriptions of guests that do not exist, for tests.
#ifndef HAVEN_XEN_BASE_FORMATS_TESTING_H_
#define HAVEN_XEN_BASE_FORMATS_TESTING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "xen/base/description.h"
#include "xen/base/records.h"
#include "xen/base/state.h"

namespace haven {

// Appends an entry of an HVM context.
inline void AppendHvmEntry(uint16_t code, uint16_t instance, std::span<const std::byte> body,
                           std::vector<std::byte>& context) {
  std::byte descriptor[8];
  StoreLe16(descriptor, code);
  StoreLe16(descriptor + 2, instance);
  StoreLe32(descriptor + 4, static_cast<uint32_t>(body.size()));
  context.insert(context.end(), descriptor, descriptor + sizeof(descriptor));
  context.insert(context.end(), body.begin(), body.end());
}

// A context with a header, the registers of `vcpus` and an end mark; entries of 64 bytes that all
// hold `fill`.
inline std::vector<std::byte> FakeHvmContext(const std::vector<uint16_t>& vcpus,
                                             std::byte fill = std::byte{7}) {
  std::vector<std::byte> header(24);
  StoreLe32(header.data(), 0x54381286);
  StoreLe32(header.data() + 4, 1);
  std::vector<std::byte> context;
  AppendHvmEntry(1, 0, header, context);
  const std::vector<std::byte> registers(64, fill);
  for (const uint16_t vcpu : vcpus) AppendHvmEntry(2, vcpu, registers, context);
  AppendHvmEntry(5, 0, registers, context);  // Some device.
  AppendHvmEntry(0, 0, {}, context);
  return context;
}

inline std::vector<HvmParam> FakeHvmParams() { return {{1, 0xfeffc}, {17, 0xfefff}}; }

inline std::vector<std::byte> FakeXenState(std::span<const std::byte> context,
                                           std::span<const HvmParam> params,
                                           uint64_t elapsed_ns = 1'000'000) {
  std::vector<std::byte> room(MaxXenStateBytes(context.size()));
  XenRecordWriter writer(room);
  PutXenTscInfo(writer, {.mode = 0, .khz = 2'000'000, .elapsed_ns = elapsed_ns, .incarnation = 1});
  writer.Put(XenRecordType::kHvmContext, context);
  PutHvmParams(writer, params);
  HAVEN_CHECK(writer.ok());
  room.resize(writer.written().size());
  return room;
}

// `state` of a guest that has a device model as well, which has saved `saved`.
inline std::vector<std::byte> WithDeviceModel(std::span<const std::byte> state,
                                              std::span<const std::byte> saved) {
  std::vector<std::byte> room(state.begin(), state.end());
  room.resize(state.size() + XenRecordBytes(saved.size()));
  XenRecordWriter writer{std::span<std::byte>(room).subspan(state.size())};
  writer.Put(XenRecordType::kDeviceModel, saved);
  HAVEN_CHECK(writer.ok());
  return room;
}

// What a device model saves: `bytes` of them, at least 9.
inline std::vector<std::byte> FakeDeviceModelState(size_t bytes = 1000) {
  std::vector<std::byte> saved(bytes, std::byte{0x5a});
  std::copy(kEmptyDeviceModelState.begin(), kEmptyDeviceModelState.end(), saved.begin());
  saved.back() = std::byte{0};
  return saved;
}

// What `xl list -l` of Xen 4.17 printed for an HVM guest that boots a kernel directly.
inline constexpr char kListedHvmGuest[] = R"([
 {
  "domid": 2,
  "config": {
   "c_info": {
    "type": "hvm",
    "name": "g1",
    "domid": 4294967295,
    "uuid": "e910821a-cc9c-4840-8096-a8f9d16e9261",
    "run_hotplug_scripts": "True"
   },
   "b_info": {
    "max_vcpus": 2,
    "avail_vcpus": [
     0,
     1
    ],
    "max_memkb": 131072,
    "target_memkb": 131072,
    "video_memkb": 0,
    "sched_params": {
     "sched": "credit2",
     "weight": 256,
     "cap": 0
    },
    "claim_mode": "True",
    "kernel": "/guest/vmlinuz",
    "cmdline": "console=hvc0 quiet lab.pace=1.0 lab.kb=16 lab.address=10.9.3.100/24",
    "ramdisk": "/guest/initrd.gz",
    "type.hvm": {
     "vga": {
      "kind": "none"
     },
     "vnc": {
      "enable": "False"
     },
     "sdl": {},
     "spice": {},
     "usb": "False",
     "vkb_device": "False",
     "rdm": {}
    },
    "arch_arm": {},
    "arch_x86": {
     "msr_relaxed": "False"
    }
   },
   "nics": [
    {
     "devid": 0,
     "mac": "00:16:3e:00:00:64",
     "bridge": "xenbr0",
     "nictype": "vif_ioemu"
    }
   ],
   "on_reboot": "restart",
   "on_soft_reset": "soft_reset"
  }
 }
])";

// A PVH guest of 5 frames of RAM and the two of its rings.
inline XenDescription FakeXenDescription() {
  XenDescription description;
  description.max_vcpus = 2;
  description.frames = {{0, 5}, {0xfeffc, 1}, {0xfefff, 1}};
  description.config_json = R"({"c_info":{"type":"pvh","name":"web1"}})";
  description.cpuid_policy.assign(2 * kXenCpuidLeafBytes, std::byte{3});
  description.msr_policy.assign(kXenMsrEntryBytes, std::byte{4});
  description.first_state = FakeXenState(FakeHvmContext({0, 1}), FakeHvmParams());
  return description;
}

}  // namespace haven

#endif  // HAVEN_XEN_BASE_FORMATS_TESTING_H_
