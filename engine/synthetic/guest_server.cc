// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/guest_socket.h"

namespace haven {
namespace {

// The process at the other end; 0 and nobody if it can not be told.
ucred PeerOf(const UniqueFd& socket) {
  ucred peer{0, static_cast<uid_t>(-1), static_cast<gid_t>(-1)};
  socklen_t bytes = sizeof(peer);
  getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
  return peer;
}

bool HungUp(const UniqueFd& socket) {
  pollfd entry{socket.get(), POLLRDHUP, 0};
  return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestServer>> GuestServer::Create(const GuestServerOptions& options,
                                                                 const UniqueFd& starter) {
  std::unique_ptr<GuestServer> server(new GuestServer(options));
  HAVEN_RETURN_IF_ERROR(server->SetUp(starter));
  return server;
}

absl::Status GuestServer::SetUp(const UniqueFd& starter) {
  waiting_ = options_.waiting;
  HAVEN_ASSIGN_OR_RETURN(listener_, ListenAsGuest(options_.runtime_dir, options_.spec.name));
  HAVEN_ASSIGN_OR_RETURN(machine_, GuestMachine::Create(options_.spec, waiting_));
  pid_fd_.reset(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!pid_fd_) return absl::ErrnoToStatus(errno, "open a pidfd of the guest");
  if (waiting_) {
    Connection connection;
    connection.pid = PeerOf(starter).pid;
    connection.socket.reset(fcntl(starter.get(), F_DUPFD_CLOEXEC, 0));
    if (!connection.socket) return absl::ErrnoToStatus(errno, "duplicate the starter's socket");
    connection.controller = true;
    connections_.push_back(std::move(connection));
  }
  return SendAttached(starter, 0);
}

GuestServer::~GuestServer() {
  machine_.reset();
  connections_.clear();
  if (listener_.valid()) {
    listener_.reset();
    RemoveDeadGuestFiles(options_.runtime_dir, options_.spec.name);
  }
}

GuestServer::Connection* GuestServer::Controller() {
  for (Connection& connection : connections_) {
    if (connection.controller) return &connection;
  }
  return nullptr;
}

bool GuestServer::Over() const {
  const bool attached =
      std::any_of(connections_.begin(), connections_.end(),
                  [](const Connection& connection) { return connection.controller; });
  if (attached) return false;
  if (waiting_) return !outlives_;
  const GateMode gate = machine_->gate().mode();
  return machine_->end() != DomainEnd::kNone &&
         (gate == GateMode::kAbsent || gate == GateMode::kDiscarded);
}

void GuestServer::Run() {
  while (!Over()) {
    std::vector<pollfd> entries;
    entries.push_back({listener_.get(), POLLIN, 0});
    for (const Connection& connection : connections_) {
      entries.push_back({connection.socket.get(), POLLIN, 0});
    }
    if (poll(entries.data(), entries.size(), -1) < 0) {
      HAVEN_CHECK_EQ(errno, EINTR) << "poll";
      continue;
    }
    for (size_t i = connections_.size(); i-- > 0;) {
      if (entries[i + 1].revents == 0 || Serve(connections_[i])) continue;
      connections_.erase(connections_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (entries[0].revents != 0) AcceptConnection();
  }
}

void GuestServer::AcceptConnection() {
  UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  const ucred peer = PeerOf(socket);
  const bool trusted = peer.uid == 0 || peer.uid == geteuid();
  if (!trusted || connections_.size() == kMaxConnections) {
    HAVEN_LOG(kWarning, "synthetic")
        << "guest=" << options_.spec.name << " refused connection of pid " << peer.pid << " uid "
        << peer.uid << ": " << (trusted ? "too many connections" : "another user");
    return;
  }
  Connection connection;
  connection.pid = peer.pid;
  connection.socket = std::move(socket);
  connections_.push_back(std::move(connection));
}

bool GuestServer::Serve(Connection& connection) {
  GuestMessage request;
  const absl::StatusOr<Received> received = ReceiveGuestMessage(connection.socket.get(), request);
  if (!received.ok()) {
    HAVEN_LOG(kWarning, "synthetic")
        << "guest=" << options_.spec.name << " closed connection of pid " << connection.pid << ": "
        << received.status().message();
    return false;
  }
  if (*received == Received::kNothing) return true;
  if (*received == Received::kClosed) return false;
  GuestMessage reply;
  reply.op = request.op;
  reply.id = request.id;
  const absl::Status result = Handle(connection, request, reply);
  // What has no reply can only be refused by closing.
  const bool one_way = request.op == GuestOp::kSuspend || request.op == GuestOp::kResume;
  if (one_way) return result.ok();
  if (result.ok() && request.op == GuestOp::kAttach) {
    return SendAttached(connection.socket, request.id).ok();
  }
  if (!result.ok()) reply.SetError(result);
  return SendGuestMessage(connection.socket.get(), reply).ok();
}

absl::Status GuestServer::Attach(Connection& connection) {
  if (waiting_ && !outlives_) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", options_.spec.name,
                     ": it is a copy that waits and has not been promoted"));
  }
  Connection* const other = Controller();
  if (other != nullptr && other != &connection) {
    // Its end may be known to the kernel, but not yet to us.
    if (!HungUp(other->socket)) {
      return absl::FailedPreconditionError(absl::StrCat("synthetic guest ", options_.spec.name,
                                                        ": process ", other->pid,
                                                        " is attached; stop it first"));
    }
    // What it has asked for is carried out before anybody else's orders, as if it had been served
    // at once: a resume that it has sent must not be lost.
    while (Serve(*other)) {
    }
    other->controller = false;
  }
  connection.controller = true;
  return absl::OkStatus();
}

absl::Status GuestServer::SendAttached(const UniqueFd& socket, uint64_t id) const {
  GuestMessage reply;
  reply.op = GuestOp::kAttach;
  reply.id = id;
  reply.values[0] = static_cast<uint64_t>(getpid());
  reply.SetText(FormatSyntheticSpec(options_.spec));
  std::array<int, kGuestFds> fds{};
  fds[kGuestMemoryFd] =
      waiting_ && !outlives_ ? machine_->memory_fd().get() : machine_->memory_read_only_fd().get();
  fds[kGuestBitmapFd] = machine_->bitmap_fd().get();
  fds[kGuestStatusFd] = machine_->status_fd().get();
  fds[kGuestEventFd] = machine_->event_fd().get();
  fds[kGuestPidFd] = pid_fd_.get();
  return SendGuestMessage(socket.get(), reply, fds);
}

}  // namespace haven
