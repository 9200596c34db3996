// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_children.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr char kKnown = 'k';
// Beyond those that a child gets.
constexpr int kFirstFreeFd = 10;
// Of an IPv6 address: what one network has.
constexpr size_t kNetworkBytes = 8;

// By which strangers are counted. Empty for a peer on this host, which is not limited apart.
std::string AddressOf(int connection) {
  sockaddr_storage peer = {};
  socklen_t bytes = sizeof(peer);
  if (getpeername(connection, reinterpret_cast<sockaddr*>(&peer), &bytes) != 0) return "";
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (peer.ss_family == AF_INET) {
    const auto& inet = reinterpret_cast<const sockaddr_in&>(peer);
    inet_ntop(AF_INET, &inet.sin_addr, text.data(), text.size());
  } else if (peer.ss_family == AF_INET6) {
    auto& inet = reinterpret_cast<sockaddr_in6&>(peer);
    std::fill(std::begin(inet.sin6_addr.s6_addr) + kNetworkBytes, std::end(inet.sin6_addr.s6_addr),
              uint8_t{0});
    inet_ntop(AF_INET6, &inet.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

// In the child of a process that may have threads: system calls only.
[[noreturn]] void RunChild(char* const* arguments, int connection, int listener) {
  // A group of its own: a signal for the listener is none for the sessions. One that is meant for a
  // session ends it.
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (dup2(connection, kSessionFd) >= 0 && dup2(listener, kListenerFd) >= 0) {
    execv(arguments[0], arguments);
  }
  _exit(127);
}

absl::StatusOr<UniqueFd> MovedUp(UniqueFd fd) {
  UniqueFd moved(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstFreeFd));
  if (!moved) return absl::ErrnoToStatus(errno, "dup");
  return moved;
}

}  // namespace

void TellListenerOfPeer() {
  // The listener may have ended.
  static_cast<void>(send(kListenerFd, &kKnown, 1, MSG_NOSIGNAL | MSG_DONTWAIT));
  close(kListenerFd);
}

size_t SessionChildren::strangers() const {
  return static_cast<size_t>(std::count_if(children_.begin(), children_.end(),
                                           [](const Child& one) { return one.ear.valid(); }));
}

bool SessionChildren::full() const {
  return children_.size() >= limits_.processes || strangers() >= limits_.strangers;
}

void SessionChildren::TurnAway(const std::string& address) {
  // The 1st, 2nd, 4th, 8th ... so that a flood does not fill the log.
  if (!std::has_single_bit(++turned_away_)) return;
  HAVEN_LOG(kWarning, "listener") << "a connection from " << address << " is turned away ("
                                  << turned_away_ << " so far): " << limits_.strangers_per_address
                                  << " others from there have not said yet who they are";
}

absl::Status SessionChildren::Start(const std::vector<std::string>& command,
                                    const UniqueFd& connection) {
  std::string address = AddressOf(connection.get());
  const auto same = std::count_if(children_.begin(), children_.end(), [&address](const Child& one) {
    return one.ear.valid() && !address.empty() && one.address == address;
  });
  if (static_cast<size_t>(same) >= limits_.strangers_per_address) {
    TurnAway(address);
    return absl::AbortedError(absl::StrCat("too many strangers from ", address));
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd ear(ends[0]);
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd listener, MovedUp(UniqueFd(ends[1])));
  HAVEN_ASSIGN_OR_RETURN(const UniqueFd peer,
                         MovedUp(UniqueFd(fcntl(connection.get(), F_DUPFD_CLOEXEC, 0))));
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pid == 0) RunChild(arguments.data(), peer.get(), listener.get());
  children_.push_back({.pid = pid,
                       .ear = std::move(ear),
                       .address = std::move(address),
                       .deadline_ns = SystemClock::Get().NowNs() +
                                      absl::ToInt64Nanoseconds(limits_.stranger_time)});
  HAVEN_LOG(kInfo, "listener") << "session pid=" << pid << " started";
  return absl::OkStatus();
}

void SessionChildren::Look() {
  const int64_t now_ns = SystemClock::Get().NowNs();
  for (Child& child : children_) {
    if (!child.ear) continue;
    char said = 0;
    const ssize_t heard = recv(child.ear.get(), &said, 1, MSG_DONTWAIT);
    child.silent = heard == 0;
    if (heard == 1 && said == kKnown) {
      child.ear.reset();
    } else if (now_ns >= child.deadline_ns) {
      child.deadline_ns = std::numeric_limits<int64_t>::max();
      HAVEN_LOG(kWarning, "listener")
          << "session pid=" << child.pid << " has not heard what its peer wants: killed";
      kill(child.pid, SIGKILL);
    }
  }
  std::erase_if(children_, [](const Child& child) {
    int status = 0;
    if (waitpid(child.pid, &status, WNOHANG) != child.pid) return false;
    HAVEN_LOG(kInfo, "listener") << "session pid=" << child.pid << " ended, status "
                                 << (WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    return true;
  });
}

void SessionChildren::Watch(std::vector<pollfd>& fds) const {
  for (const Child& child : children_) {
    if (child.ear && !child.silent)
      fds.push_back({.fd = child.ear.get(), .events = POLLIN, .revents = 0});
  }
}

}  // namespace haven
