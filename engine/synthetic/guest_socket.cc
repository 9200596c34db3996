// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/unix_address.h"

namespace haven {
namespace {

constexpr int kBacklog = 16;

std::string PathOf(const std::string& runtime_dir, const std::string& name, const char* suffix) {
  return absl::StrCat(runtime_dir, "/synthetic-", name, suffix);
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return absl::ErrnoToStatus(errno, "create a Unix socket");
  return fd;
}

// Serialises everyone who takes or clears a name in a directory; closing the descriptor unlocks.
absl::StatusOr<UniqueFd> LockDirectory(const std::string& runtime_dir, int operation) {
  UniqueFd dir(open(runtime_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open runtime directory ", runtime_dir));
  }
  while (flock(dir.get(), operation) != 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, absl::StrCat("lock ", runtime_dir));
  }
  return dir;
}

// Whether somebody may own a name, from the result of connecting to it.
bool MayLive(const absl::Status& connected) {
  return !absl::IsNotFound(connected) && !absl::IsUnavailable(connected);
}

}  // namespace

std::string SyntheticSocketPath(const std::string& runtime_dir, const std::string& name) {
  return PathOf(runtime_dir, name, ".sock");
}

std::string SyntheticStderrPath(const std::string& runtime_dir, const std::string& name) {
  return PathOf(runtime_dir, name, ".stderr");
}

std::string SyntheticReportPath(const std::string& runtime_dir, const std::string& name) {
  return PathOf(runtime_dir, name, ".report");
}

absl::StatusOr<UniqueFd> ConnectToGuest(const std::string& runtime_dir, const std::string& name) {
  const std::string path = SyntheticSocketPath(runtime_dir, name);
  HAVEN_ASSIGN_OR_RETURN(const UnixAddress address, UnixAddress::Make(path));
  HAVEN_ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  if (connect(fd.get(), address.get(), address.bytes()) == 0) return fd;
  switch (errno) {
    case ENOENT:
      return absl::NotFoundError(absl::StrCat("synthetic guest ", name, ": there is no ", path,
                                              "; start the guest, or name its runtime directory"));
    case ECONNREFUSED:
      return absl::UnavailableError(absl::StrCat("synthetic guest ", name, ": nobody listens at ",
                                                 path, "; its process is dead"));
    case EAGAIN:
      return absl::ResourceExhaustedError(
          absl::StrCat("synthetic guest ", name, ": ", path, " accepts no connections; it hangs"));
    default:
      return absl::ErrnoToStatus(errno, absl::StrCat("connect to ", path));
  }
}

absl::StatusOr<UniqueFd> ListenAsGuest(const std::string& runtime_dir, const std::string& name) {
  const std::string path = SyntheticSocketPath(runtime_dir, name);
  HAVEN_ASSIGN_OR_RETURN(const UnixAddress address, UnixAddress::Make(path));
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd lock, LockDirectory(runtime_dir, LOCK_EX));
  const absl::Status other = ConnectToGuest(runtime_dir, name).status();
  if (MayLive(other)) {
    return absl::AlreadyExistsError(
        absl::StrCat("synthetic guest ", name, ": one of that name lives at ", path));
  }
  if (absl::IsUnavailable(other) && unlink(path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("remove the dead guest's ", path));
  }
  HAVEN_ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  if (bind(fd.get(), address.get(), address.bytes()) != 0 || listen(fd.get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listen at ", path));
  }
  return fd;
}

void RemoveDeadGuestFiles(const std::string& runtime_dir, const std::string& name) {
  // Somebody who holds the lock is about to start a guest, which clears the name itself.
  const absl::StatusOr<UniqueFd> lock = LockDirectory(runtime_dir, LOCK_EX | LOCK_NB);
  if (!lock.ok()) return;
  if (MayLive(ConnectToGuest(runtime_dir, name).status())) return;
  unlink(SyntheticSocketPath(runtime_dir, name).c_str());
  const std::string output = SyntheticStderrPath(runtime_dir, name);
  struct stat info {};
  if (stat(output.c_str(), &info) == 0 && info.st_size == 0) unlink(output.c_str());
}

}  // namespace haven
