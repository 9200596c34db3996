// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_PLUG_SPEC_H_
#define HAVEN_XEN_OUTPUT_PLUG_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/clock.h"

namespace haven {

// What an output buffer is for.
struct PlugSpec {
  // Names the buffer: whoever has the same name finds the same one again.
  std::string group;
  // The NICs of all guests of the group, as this host calls them.
  std::vector<std::string> devices;
  // The domains whose further NICs are to be noticed (vif_names.h).
  std::vector<uint32_t> domains;
  // What may be held per epoch, in bytes of packets. The kernel spends up to three times as much
  // memory on many small packets. At most two epochs are held at once.
  uint32_t limit_bytes = 64 << 20;
  // How long a release waits for the packets of the one before to leave first.
  int64_t order_ns = 20 * kNsPerMs;
  // Of one answer of the kernel.
  int64_t timeout_ns = 2 * kNsPerSecond;
  // What is released for good has this long to leave.
  int64_t drain_ns = 2 * kNsPerSecond;
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_PLUG_SPEC_H_
