// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/connection.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/guest_socket.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/wait_for.h"

namespace haven {
namespace {

constexpr int64_t kKillTimeoutNs = 10 * kNsPerSecond;

}  // namespace

absl::StatusOr<std::shared_ptr<SyntheticConnection>> SyntheticConnection::Attach(
    const std::string& runtime_dir, const std::string& name, absl::Duration timeout) {
  absl::StatusOr<UniqueFd> socket = ConnectToGuest(runtime_dir, name);
  if (absl::IsUnavailable(socket.status())) {
    RemoveDeadGuestFiles(runtime_dir, name);
    return absl::NotFoundError(std::string(socket.status().message()));
  }
  HAVEN_RETURN_IF_ERROR(socket.status());
  GuestChannel channel(name, *std::move(socket));
  GuestMessage message;
  message.op = GuestOp::kAttach;
  std::vector<UniqueFd> fds;
  HAVEN_RETURN_IF_ERROR(channel.Call(message, timeout, &fds));
  return Make(runtime_dir, std::move(channel), message, std::move(fds), false);
}

absl::StatusOr<std::shared_ptr<SyntheticConnection>> SyntheticConnection::Adopt(
    const std::string& runtime_dir, StartedGuest started) {
  HAVEN_ASSIGN_OR_RETURN(const SyntheticSpec spec, ParseSyntheticSpec(started.ready.text()));
  return Make(runtime_dir, GuestChannel(spec.name, std::move(started.socket)), started.ready,
              std::move(started.fds), true);
}

SyntheticConnection::SyntheticConnection(std::string runtime_dir, SyntheticSpec spec,
                                         GuestChannel channel)
    : runtime_dir_(std::move(runtime_dir)), spec_(std::move(spec)), channel_(std::move(channel)) {}

absl::StatusOr<std::shared_ptr<SyntheticConnection>> SyntheticConnection::Make(
    const std::string& runtime_dir, GuestChannel channel, const GuestMessage& attached,
    std::vector<UniqueFd> fds, bool writable) {
  HAVEN_ASSIGN_OR_RETURN(SyntheticSpec spec, ParseSyntheticSpec(attached.text()));
  std::shared_ptr<SyntheticConnection> connection(
      new SyntheticConnection(runtime_dir, std::move(spec), std::move(channel)));
  connection->pid_ = static_cast<pid_t>(attached.values[0]);
  HAVEN_RETURN_IF_ERROR(connection->Map(std::move(fds), writable));
  return connection;
}

absl::Status SyntheticConnection::Map(std::vector<UniqueFd> fds, bool writable) {
  if (fds.size() != kGuestFds) {
    return absl::DataLossError(absl::StrCat("synthetic guest ", spec_.name, ": it passed ",
                                            fds.size(), " descriptors instead of ", kGuestFds));
  }
  const SyntheticLayout layout(spec_);
  HAVEN_ASSIGN_OR_RETURN(
      memory_map_, MapSharedMemory(fds[kGuestMemoryFd], layout.bytes(), writable, "guest memory"));
  memory_ = layout.View(memory_map_.data());
  HAVEN_ASSIGN_OR_RETURN(bitmap_map_, MapSharedMemory(fds[kGuestBitmapFd], layout.bitmap_bytes(),
                                                      true, "log-dirty bitmap"));
  log_dirty_ = {reinterpret_cast<uint64_t*>(bitmap_map_.data()), memory_.bitmap_words()};
  HAVEN_ASSIGN_OR_RETURN(status_map_,
                         MapSharedMemory(fds[kGuestStatusFd], kPageBytes, false, "status page"));
  status_ = reinterpret_cast<const SyntheticStatusPage*>(status_map_.data());
  event_fd_ = std::move(fds[kGuestEventFd]);
  pid_fd_ = std::move(fds[kGuestPidFd]);
  return absl::OkStatus();
}

bool SyntheticConnection::Dead() const { return WaitReadable(pid_fd_.get(), 0); }

absl::Status SyntheticConnection::CheckAlive() const {
  if (!Dead()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("synthetic guest ", spec_.name, ": its process ", pid_, " is dead"));
}

absl::Status SyntheticConnection::Kill() {
  if (syscall(SYS_pidfd_send_signal, pid_fd_.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("synthetic guest ", spec_.name, ": kill process ", pid_));
  }
  if (!WaitReadable(pid_fd_.get(), SystemClock::Get().NowNs() + kKillTimeoutNs)) {
    return absl::DeadlineExceededError(absl::StrCat("synthetic guest ", spec_.name, ": process ",
                                                    pid_, " was killed and does not end"));
  }
  RemoveDeadGuestFiles(runtime_dir_, spec_.name);
  return absl::OkStatus();
}

}  // namespace haven
