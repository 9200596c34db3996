// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr int kBacklog = 64;

absl::StatusOr<UniqueFd> MakeSocket() {
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_fd) return absl::ErrnoToStatus(errno, "socket");
  return socket_fd;
}

absl::Status StartListening(int socket_fd, absl::string_view address) {
  if (listen(socket_fd, kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listen at ", address));
  }
  return absl::OkStatus();
}

// Makes sure that nobody lives at the path of `address`, and removes the file of a dead listener.
absl::Status ClearPath(const ShmAddress& address) {
  struct stat info;
  if (lstat(address.path().c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(
        address.text(), " is a file but no socket; remove it or choose another address"));
  }
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd probe, MakeSocket());
  // EAGAIN: somebody listens, and has more waiting connections than the backlog takes.
  if (connect(probe.get(), address.raw(), address.raw_bytes()) == 0 || errno == EAGAIN) {
    return absl::AlreadyExistsError(absl::StrCat("another process listens at ", address.text(),
                                                 "; stop it or choose another address"));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) {
    return absl::ErrnoToStatus(errno, absl::StrCat("look who listens at ", address.text()));
  }
  if (unlink(address.path().c_str()) != 0 && errno != ENOENT) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("remove the socket of a dead listener, ", address.text()));
  }
  return absl::OkStatus();
}

// Two processes that start at once could each take the other's fresh file for a stale one. A lock
// on the folder, held from the look to listen(2), keeps them apart and leaves nothing behind.
absl::StatusOr<UniqueFd> LockDirectory(const ShmAddress& address) {
  const std::string directory = address.directory();
  UniqueFd folder(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return absl::ErrnoToStatus(errno, absl::StrCat("open the folder ", directory));
  if (flock(folder.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError(
        absl::StrCat("another process holds a lock on the folder ", directory, "; try again"));
  }
  return folder;
}

absl::StatusOr<UniqueFd> ListenAtPath(const ShmAddress& address) {
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd lock, LockDirectory(address));
  HAVEN_RETURN_IF_ERROR(ClearPath(address));
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd, MakeSocket());
  // Linux gives the file the mode of the socket, so it never exists with a wider one.
  if (fchmod(socket_fd.get(), 0600) != 0) return absl::ErrnoToStatus(errno, "fchmod of a socket");
  if (bind(socket_fd.get(), address.raw(), address.raw_bytes()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("bind to ", address.text()));
  }
  HAVEN_RETURN_IF_ERROR(StartListening(socket_fd.get(), address.text()));
  return socket_fd;
}

absl::StatusOr<UniqueFd> ListenAtName(const ShmAddress& address) {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd, MakeSocket());
  if (bind(socket_fd.get(), address.raw(), address.raw_bytes()) != 0) {
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat("another process listens at ", address.text(),
                                                   "; stop it or choose another address"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("bind to ", address.text()));
  }
  HAVEN_RETURN_IF_ERROR(StartListening(socket_fd.get(), address.text()));
  return socket_fd;
}

absl::StatusOr<UniqueFd> ListenAnywhere() {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd, MakeSocket());
  // An address of the family alone makes the kernel choose a free abstract name (autobind).
  const sockaddr family_only = {.sa_family = AF_UNIX, .sa_data = {}};
  if (bind(socket_fd.get(), &family_only, sizeof(family_only.sa_family)) != 0) {
    return absl::ErrnoToStatus(errno, "bind to a free name");
  }
  HAVEN_RETURN_IF_ERROR(StartListening(socket_fd.get(), "a free name"));
  return socket_fd;
}

}  // namespace

ShmListener::ShmListener(UniqueFd socket, std::string address, std::string path)
    : socket_(std::move(socket)),
      address_(std::move(address)),
      path_(std::move(path)),
      owner_(getpid()) {}

absl::StatusOr<std::unique_ptr<ShmListener>> ShmListener::Listen(absl::string_view address) {
  if (address.empty()) {
    HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd, ListenAnywhere());
    std::string chosen = ShmAddress::OfSocket(socket_fd.get());
    return std::unique_ptr<ShmListener>(
        new ShmListener(std::move(socket_fd), std::move(chosen), ""));
  }
  HAVEN_ASSIGN_OR_RETURN(const ShmAddress parsed, ShmAddress::Parse(address));
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket_fd,
                         parsed.abstract() ? ListenAtName(parsed) : ListenAtPath(parsed));
  return std::unique_ptr<ShmListener>(
      new ShmListener(std::move(socket_fd), parsed.text(), parsed.path()));
}

ShmListener::~ShmListener() {
  // While the socket is open no other listener takes the file for a stale one, so it is still ours.
  if (!path_.empty() && owner_ == getpid()) unlink(path_.c_str());
}

absl::StatusOr<std::optional<int>> ShmListener::Accept() {
  for (;;) {
    const int fd = accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return fd;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    // ECONNABORTED: this one has already gone away; the next may be there.
    if (errno != EINTR && errno != ECONNABORTED) {
      return absl::ErrnoToStatus(errno, absl::StrCat("accept at ", address_));
    }
  }
}

}  // namespace haven
