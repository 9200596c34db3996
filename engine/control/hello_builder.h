// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_HELLO_BUILDER_H_
#define HAVEN_ENGINE_CONTROL_HELLO_BUILDER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/primary/domain.h"
#include "engine/replica/control_message.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// What a primary says about itself, beside its guests.
struct HelloParameters {
  FeatureOffer offer;
  std::string node_id;
  std::string group;
  uint32_t slot_bytes = kDefaultSlotBytes;
  uint64_t staging_bytes = 0;  // Bounds the largest epoch.
  int64_t detect_ns = 0;
  int64_t interval_ns = 0;
  std::string return_address;
};

// The frames that are RAM as ascending runs. ResourceExhausted: more than kMaxRamRuns.
absl::StatusOr<std::vector<RamRun>> RamRuns(const GuestMemory& memory);

// The Hello for these guests, in their order, without session and base. InvalidArgument: something
// breaks a rule of the message (a name, a uuid, a size), or staging holds no slot;
// ResourceExhausted: a guest's RAM lies in too many pieces. Names the guest, the field and its
// value.
absl::StatusOr<Hello> BuildHello(const HelloParameters& parameters,
                                 std::span<Domain* const> domains);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_HELLO_BUILDER_H_
