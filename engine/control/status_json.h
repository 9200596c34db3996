// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_STATUS_JSON_H_
#define HAVEN_ENGINE_CONTROL_STATUS_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/control/status.h"

namespace haven {

// The snapshot as one JSON object in one line, without newline. Keys are the names of the fields of
// StatusSnapshot; docs/operations.md explains them to operators. Sessions are strings of 16 hex
// digits: JSON's numbers do not hold 64 bits everywhere. Bytes that are not UTF-8 are replaced.
std::string StatusToJson(const StatusSnapshot& snapshot);

// For whoever reads a status later: as above with its ages (arbiter.age_ns, epoch.age_ns) counted
// to the reading, and two keys in front: `stale`, as StatusReading has it, and `status_age_ns`. The
// state of a stale status is its writer's last word: look at `stale` first.
std::string StatusToJson(const StatusSnapshot& snapshot, const StatusReading& reading);

// Reads StatusToJson's form; unknown keys are passed over, so that an older program can read a
// newer file. InvalidArgument: no JSON, a key is missing or of the wrong type; names the key.
absl::StatusOr<StatusSnapshot> StatusFromJson(absl::string_view text);

// The event as one JSON object in one line, without newline.
std::string EventToJson(const StatusEvent& event);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_JSON_H_
