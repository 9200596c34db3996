// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_FILE_UTIL_H_
#define HAVEN_ENGINE_BASE_FILE_UTIL_H_

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Replaces the file at `path` by one with these contents and this mode: writes PATH.tmp beside it,
// fsyncs, renames over `path`, fsyncs the directory. After OK the new contents survive a power cut;
// after an error the old file is there unchanged, or, when only the last step failed, the old or
// the new one. Never a mixture. Blocks for the disk: control path only. One writer per path at a
// time.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents,
                                 mode_t mode = 0600);

// The contents of a regular file. NotFoundError when there is none, ResourceExhaustedError when it
// is larger than `max_bytes` (nothing of it is returned), FailedPreconditionError when it is no
// regular file.
absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes);

// Removes a file and fsyncs its directory. OK when there was none.
absl::Status RemoveFileDurably(const std::string& path);

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_FILE_UTIL_H_
