// SPDX-License-Identifier: Apache-2.0
//
// What an operator or a test asks of a synthetic guest, whoever controls it.
#ifndef HAVEN_ENGINE_SYNTHETIC_OPERATOR_H_
#define HAVEN_ENGINE_SYNTHETIC_OPERATOR_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/primary/domain.h"
#include "engine/primary/output_buffer.h"
#include "engine/synthetic/output_gate.h"
#include "engine/synthetic/spec.h"

namespace haven {

// A guest as it is now.
struct SyntheticGuestInfo {
  SyntheticSpec spec;
  pid_t pid = 0;
  pid_t controller_pid = 0;  // The attached engine; 0 if there is none.
  DomainEnd end = DomainEnd::kNone;
  bool suspended = false;
  bool waiting = false;  // A copy that has not been let run.
  GateMode gate = GateMode::kAbsent;
  uint64_t next_sequence = 1;
  uint64_t released_packets = 0;
  uint64_t held_packets = 0;
  uint64_t dropped_packets = 0;
  std::array<uint64_t, kSyntheticMaxVcpus> writes{};
};

// Things that go wrong around a guest.
enum class SyntheticFault : uint8_t {
  kLoseLogDirty = 1,      // Another tool takes log-dirty mode: what was in the log is lost.
  kLoseOutputBuffer = 2,  // Somebody removes the output buffer: what it held leaves.
};

// All three return NotFound (no such guest), Unavailable (its process is dead), DeadlineExceeded
// (it does not answer within a second).
absl::StatusOr<SyntheticGuestInfo> QuerySyntheticGuest(const std::string& runtime_dir,
                                                       const std::string& name);

// Shuts down, reboots or crashes the guest, as from inside. It stays, stopped for good, while an
// engine is attached or its output buffer is there, and then ends its process; nobody starts it
// again. InvalidArgument: not one of the three.
absl::Status EndSyntheticGuest(const std::string& runtime_dir, const std::string& name,
                               DomainEnd reason);

absl::Status InjectSyntheticFault(const std::string& runtime_dir, const std::string& name,
                                  SyntheticFault fault);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_OPERATOR_H_
