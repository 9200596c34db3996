// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status ErrnoError(absl::string_view action, absl::string_view path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(action, " ", path));
}

// Waits for the lock by trying again: a blocking request (F_OFD_SETLKW) has no timeout, a signal to
// cut it short would have to reach this very thread, and a lock of another host announces its
// release to nobody. The interval bounds the delay after a release; the load is one request each.
absl::Status AcquireLock(int fd, bool exclusive, const std::string& path,
                         const Deadline& deadline) {
  constexpr absl::Duration kFirstInterval = absl::Milliseconds(1);
  constexpr absl::Duration kLastInterval = absl::Milliseconds(16);
  absl::Duration interval = kFirstInterval;
  for (;;) {
    struct flock range = {};
    range.l_type = exclusive ? F_WRLCK : F_RDLCK;
    range.l_whence = SEEK_SET;
    if (fcntl(fd, F_OFD_SETLK, &range) == 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EACCES) {
      return absl::FailedPreconditionError(
          absl::StrCat(ErrnoError("lock", path).message(),
                       "; the file system must offer record locks that all hosts honour (NFSv4, or "
                       "a cluster file system; not NFS mounted with nolock)"));
    }
    if (deadline.Passed()) {
      return absl::DeadlineExceededError(
          absl::StrCat("another process or host holds the lock on ", path, " for the whole of ",
                       absl::FormatDuration(deadline.timeout()),
                       ": it hangs, or its storage does; end it or bring it back, nothing is "
                       "changed meanwhile"));
    }
    deadline.Pause(interval);
    interval = std::min(2 * interval, kLastInterval);
  }
}

}  // namespace

absl::StatusOr<std::string> LockedFile::ReadAll(size_t max_bytes) const {
  std::string content(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < content.size()) {
    const ssize_t got =
        pread(fd_.get(), content.data() + size, content.size() - size, static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError("read", path_);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path_, " is larger than ", max_bytes, " bytes"));
  }
  content.resize(size);
  return content;
}

absl::Status LockedFile::WriteAt(size_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError("write", path_);
    offset += static_cast<size_t>(written);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status LockedFile::Sync() {
  return fsync(fd_.get()) == 0 ? absl::OkStatus() : ErrnoError("fsync", path_);
}

absl::StatusOr<SharedDirectory> SharedDirectory::Open(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoError("open directory", path);
  const std::string marker(kArbiterMarkerName);
  struct stat info;
  if (fstatat(fd.get(), marker.c_str(), &info, 0) != 0) {
    if (errno != ENOENT) return ErrnoError("look up", absl::StrCat(path, "/", marker));
    return absl::FailedPreconditionError(absl::StrCat(
        "directory ", path, " has no file '", marker,
        "': the shared storage is probably not mounted there; if this is a new directory on it, "
        "create that file once: touch ",
        path, "/", marker));
  }
  return SharedDirectory(std::move(fd), path);
}

absl::StatusOr<LockedFile> SharedDirectory::OpenLocked(absl::string_view name, Lock lock,
                                                       IfMissing if_missing,
                                                       const Deadline& deadline) const {
  const std::string path = PathOf(name);
  const int create = if_missing == IfMissing::kCreate ? O_CREAT : 0;
  for (;;) {
    // O_NONBLOCK: should the name be a FIFO, opening it must not wait for its other end.
    UniqueFd fd(openat(fd_.get(), std::string(name).c_str(),
                       O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | create, 0600));
    if (!fd) return ErrnoError("open", path);
    struct stat opened;
    if (fstat(fd.get(), &opened) != 0) return ErrnoError("stat", path);
    if (!S_ISREG(opened.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
    }
    HAVEN_RETURN_IF_ERROR(AcquireLock(fd.get(), lock == Lock::kExclusive, path, deadline));
    // Whoever held the lock may have removed the file: a write to it would be seen by nobody.
    struct stat named;
    if (fstatat(fd_.get(), std::string(name).c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        named.st_dev == opened.st_dev && named.st_ino == opened.st_ino) {
      return LockedFile(std::move(fd), path);
    }
    if (deadline.Passed()) {
      return absl::DeadlineExceededError(
          absl::StrCat(path, " was removed again and again while it was waited for"));
    }
  }
}

absl::StatusOr<std::vector<std::string>> SharedDirectory::List(absl::string_view suffix,
                                                               size_t limit) const {
  UniqueFd fd(openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return ErrnoError("open directory", path_);
  DIR* const stream = fdopendir(fd.get());
  if (stream == nullptr) return ErrnoError("list", path_);
  static_cast<void>(fd.release());  // Closed with the stream.
  const absl::Cleanup close_stream = [stream] { closedir(stream); };
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(stream);
    if (entry == nullptr && errno != 0) return ErrnoError("list", path_);
    if (entry == nullptr) break;
    if (!absl::EndsWith(entry->d_name, suffix)) continue;
    if (names.size() == limit) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path_, " has more than ", limit, " files named *", suffix));
    }
    names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status SharedDirectory::Remove(absl::string_view name) const {
  if (unlinkat(fd_.get(), std::string(name).c_str(), 0) != 0 && errno != ENOENT) {
    return ErrnoError("remove", PathOf(name));
  }
  return absl::OkStatus();
}

absl::Status SharedDirectory::Sync() const {
  return fsync(fd_.get()) == 0 ? absl::OkStatus() : ErrnoError("fsync", path_);
}

std::string SharedDirectory::PathOf(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

}  // namespace haven
