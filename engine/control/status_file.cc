// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"
#include "engine/control/status_json.h"

namespace haven {

absl::Status WriteStatusFile(const std::string& path, absl::string_view text) {
  const std::string fresh = absl::StrCat(path, ".new");
  const UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("write the status to ", fresh));
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(fd.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("write the status to ", fresh));
    written += static_cast<size_t>(count);
  }
  if (rename(fresh.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("rename ", fresh, " to ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<StatusFile> ReadStatusFile(const std::string& path, const Clock& clock) {
  HAVEN_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxStatusBytes));
  StatusFile file;
  absl::StatusOr<StatusSnapshot> snapshot = StatusFromJson(text);
  if (!snapshot.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", snapshot.status().message()));
  }
  file.snapshot = *std::move(snapshot);
  const int64_t now_ns = clock.NowNs();
  // Written by a clock that was ahead of this one: by that of an earlier run of the host.
  const bool earlier_run = file.snapshot.written_ns < 0 || file.snapshot.written_ns > now_ns;
  file.reading.age_ns = earlier_run ? now_ns : now_ns - file.snapshot.written_ns;
  file.reading.stale = earlier_run || file.reading.age_ns > kStaleNs;
  return file;
}

}  // namespace haven
