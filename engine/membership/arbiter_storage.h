// SPDX-License-Identifier: Apache-2.0
//
// Files on storage that several hosts share, used under locks that all of them honour.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_STORAGE_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_STORAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "engine/membership/arbiter_deadline.h"

namespace haven {

// A file that an operator creates once in the directory that arbiters share. A directory without it
// is not used: it is most likely the mount point of storage that is not mounted, and a register
// read or created there would be a second truth.
inline constexpr absl::string_view kArbiterMarkerName = "haven-arbiter";

// A regular file, open and locked as a whole until the object goes.
//
// The lock is an open-file-description record lock on the data itself. It excludes other threads,
// processes and, where the file system carries record locks between hosts (NFS, CephFS, GFS2,
// OCFS2), other hosts. Two properties follow from locking the very file that is read and written,
// and are why nothing here is replaced by rename(2): taking the lock makes a network file system
// drop what it has cached of the file, and a server that has given a silent client's lock away
// refuses that client's late writes to the file, while it would carry out a late rename.
//
// Not thread-safe; movable. Writes block for the storage.
class LockedFile {
 public:
  LockedFile(LockedFile&&) = default;
  LockedFile& operator=(LockedFile&&) = default;

  // The whole content. ResourceExhausted: more than `max_bytes`. Otherwise an error of read(2).
  absl::StatusOr<std::string> ReadAll(size_t max_bytes) const;

  // Writes all of `bytes` at `offset`. After an error any part of them may have been written.
  absl::Status WriteAt(size_t offset, absl::string_view bytes);

  // OK: everything written to the file so far, by whomever, survives a power cut.
  absl::Status Sync();

 private:
  friend class SharedDirectory;
  LockedFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  UniqueFd fd_;
  std::string path_;
};

// A directory with the marker file. Every name is looked up below the directory opened first, so
// that it stays the same one when the storage is unmounted meanwhile. Thread-safe.
class SharedDirectory {
 public:
  enum class Lock : uint8_t { kShared, kExclusive };
  enum class IfMissing : uint8_t { kCreate, kFail };

  // FailedPrecondition: no marker file. Otherwise an error of open(2) or stat(2).
  static absl::StatusOr<SharedDirectory> Open(const std::string& path);

  // Opens and locks the file `name` of this directory: the one that has the name once the lock is
  // held. A created file is empty and has mode 0600.
  // NotFound: missing. DeadlineExceeded: somebody else held the lock all the time.
  // FailedPrecondition: no regular file, or a file system without usable locks.
  absl::StatusOr<LockedFile> OpenLocked(absl::string_view name, Lock lock, IfMissing if_missing,
                                        const Deadline& deadline) const;

  // Names that end with `suffix`, sorted. ResourceExhausted: there are more than `limit`. Otherwise
  // an error of readdir(3).
  absl::StatusOr<std::vector<std::string>> List(absl::string_view suffix, size_t limit) const;

  // OK also when there is no such file.
  absl::Status Remove(absl::string_view name) const;

  // OK: files created and removed so far survive a power cut as such.
  absl::Status Sync() const;

  std::string PathOf(absl::string_view name) const;

 private:
  SharedDirectory(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  UniqueFd fd_;
  std::string path_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_STORAGE_H_
