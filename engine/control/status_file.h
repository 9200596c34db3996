// SPDX-License-Identifier: Apache-2.0
//
// A status where others find it, also while its writer hangs.
#ifndef HAVEN_ENGINE_CONTROL_STATUS_FILE_H_
#define HAVEN_ENGINE_CONTROL_STATUS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/control/status_text.h"

namespace haven {

inline constexpr size_t kMaxStatusBytes = size_t{256} << 10;
// A writer that is well writes at least this often.
inline constexpr int64_t kStatusRefreshNs = 1 * kNsPerSecond;
// A status older than this is stale.
inline constexpr int64_t kStaleNs = 3 * kStatusRefreshNs;

// Replaces the file: a reader sees the old text or the new one, never a mixture. Not fsynced: a
// status is worth nothing after a power cut. Mode 0644. Errors of open(2), write(2) and rename(2),
// naming `path`.
absl::Status WriteStatusFile(const std::string& path, absl::string_view text);

struct StatusFile {
  StatusSnapshot snapshot;
  StatusReading reading;
};

// Reads a file that was written on this host. Its age is that of the writer's monotonic clock; a
// status from before the host's last start is stale. NotFound: there is none, so nothing is
// protected under that name here; ResourceExhausted: larger than kMaxStatusBytes; InvalidArgument:
// no status.
absl::StatusOr<StatusFile> ReadStatusFile(const std::string& path, const Clock& clock);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_FILE_H_
