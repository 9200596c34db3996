// SPDX-License-Identifier: Apache-2.0
#include "engine/control/event_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/control/status_json.h"

namespace haven {

absl::Status EventLog::Append(const StatusEvent& event) const {
  const std::string line = absl::StrCat(EventToJson(event), "\n");
  struct stat info;
  if (stat(path_.c_str(), &info) == 0 && info.st_size > 0 &&
      static_cast<uint64_t>(info.st_size) + line.size() > max_bytes_) {
    const std::string older = absl::StrCat(path_, ".1");
    if (rename(path_.c_str(), older.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("rename ", path_, " to ", older));
    }
  }
  const UniqueFd fd(open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("append an event to ", path_));
  ssize_t written = write(fd.get(), line.data(), line.size());
  while (written < 0 && errno == EINTR) written = write(fd.get(), line.data(), line.size());
  if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat("append an event to ", path_));
  if (static_cast<size_t>(written) == line.size()) return absl::OkStatus();
  // What is left of the line must not become the head of the next one.
  const off_t end = lseek(fd.get(), 0, SEEK_END);
  if (end < written || ftruncate(fd.get(), end - written) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("take back half an event from ", path_));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("append an event to ", path_, ": the file system has room for a part only"));
}

}  // namespace haven
