// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/hub.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "tests/lab/hub/control.h"

namespace haven {
namespace {

constexpr size_t kReadBytes = 256 * 1024;
constexpr size_t kClientsMax = 16;

// Broadcast, of a type for experiments (IEEE 802, 0x88b5), that every host drops.
Frame StirringFrame() {
  Frame frame(60);
  std::fill_n(frame.begin(), 6, std::byte{0xff});
  frame[6] = std::byte{0x02};
  frame[12] = std::byte{0x88};
  frame[13] = std::byte{0xb5};
  return frame;
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::UnavailableError(absl::StrCat("the path of a socket has 1 to ",
                                               sizeof(address.sun_path) - 1, " bytes: ", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd.get(), 8) != 0) {
    return absl::UnavailableError(
        absl::StrCat("can not listen at ", path, ": ", std::strerror(errno)));
  }
  return fd;
}

UniqueFd AcceptAt(const UniqueFd& listener) {
  return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

bool IsForLater(int error) { return error == EAGAIN || error == EINTR; }

}  // namespace

Hub::Hub(uint64_t seed, const Clock& clock)
    : clock_(clock),
      switch_(seed,
              [this](size_t port, std::span<const std::byte> frame) { Deliver(port, frame); }),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      buffer_(kReadBytes) {}

Hub::~Hub() {
  for (const Port& port : ports_) unlink(port.path.c_str());
  if (control_listener_) unlink(control_path_.c_str());
}

absl::StatusOr<std::unique_ptr<Hub>> Hub::Start(const std::vector<PortSpec>& ports,
                                                const std::string& control_path, uint64_t seed,
                                                const Clock& clock) {
  std::unique_ptr<Hub> hub(new Hub(seed, clock));
  if (absl::Status status = hub->Listen(ports, control_path); !status.ok()) return status;
  return hub;
}

absl::Status Hub::Listen(const std::vector<PortSpec>& ports, const std::string& control_path) {
  for (const PortSpec& spec : ports) {
    const absl::StatusOr<size_t> number = switch_.AddPort(spec.name, spec.network);
    if (!number.ok()) return number.status();
    absl::StatusOr<UniqueFd> listener = ListenAt(spec.path);
    if (!listener.ok()) return listener.status();
    Port& port = ports_.emplace_back();
    port.path = spec.path;
    port.listener = *std::move(listener);
    if (spec.stirred) stirred_.push_back(*number);
    absl::Status watched =
        Watch(port.listener.get(), Source::kListener, static_cast<uint32_t>(*number));
    if (!watched.ok()) return watched;
  }
  absl::StatusOr<UniqueFd> listener = ListenAt(control_path);
  if (!listener.ok()) return listener.status();
  control_path_ = control_path;
  control_listener_ = *std::move(listener);
  return Watch(control_listener_.get(), Source::kControlListener, 0);
}

absl::Status Hub::Watch(int fd, Source source, uint32_t number) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(source) << 32 | number;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::UnavailableError(absl::StrCat("epoll_ctl: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status Hub::Run(int stop_fd) {
  if (absl::Status status = Watch(stop_fd, Source::kStop, 0); !status.ok()) return status;
  std::array<epoll_event, 64> events;
  while (!stopped_) {
    timespec timeout{};
    const std::optional<int64_t> due_ns = NextWakeNs();
    if (due_ns.has_value()) {
      const int64_t wait_ns = std::max<int64_t>(0, *due_ns - clock_.NowNs());
      timeout = {wait_ns / kNsPerSecond, wait_ns % kNsPerSecond};
    }
    const int count = epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   due_ns.has_value() ? &timeout : nullptr, nullptr);
    if (count < 0 && errno != EINTR) {
      return absl::InternalError(absl::StrCat("epoll_pwait2: ", std::strerror(errno)));
    }
    switch_.DeliverDue(clock_.NowNs());
    Stir(clock_.NowNs());
    for (int i = 0; i < count; ++i) Handle(events[static_cast<size_t>(i)]);
    FlushAll();
  }
  return absl::OkStatus();
}

void Hub::Handle(const epoll_event& event) {
  const auto number = static_cast<uint32_t>(event.data.u64);
  switch (static_cast<Source>(event.data.u64 >> 32)) {
    case Source::kStop:
      stopped_ = true;
      return;
    case Source::kListener:
      return AcceptPort(number);
    case Source::kConnection:
      // Room for more is used by FlushAll.
      if ((event.events & ~uint32_t{EPOLLOUT}) != 0) ReadPort(number);
      return;
    case Source::kControlListener:
      return AcceptControl();
    case Source::kControl:
      return ReadControl(number);
  }
}

void Hub::AcceptPort(uint32_t number) {
  Port& port = ports_[number];
  UniqueFd connection = AcceptAt(port.listener);
  if (!connection) return;
  ClosePort(port);
  if (Watch(connection.get(), Source::kConnection, number).ok()) {
    port.connection = std::move(connection);
  }
}

void Hub::ReadPort(uint32_t number) {
  Port& port = ports_[number];
  if (!port.connection) return;  // Closed by an event before this one.
  const ssize_t count = read(port.connection.get(), buffer_.data(), buffer_.size());
  if (count < 0 && IsForLater(errno)) return;
  if (count <= 0) return ClosePort(port);
  const int64_t now_ns = clock_.NowNs();
  switch_.DeliverDue(now_ns);
  const absl::Status status = port.reader.Add(
      std::span(buffer_).first(static_cast<size_t>(count)),
      [&](std::span<const std::byte> frame) { switch_.Receive(number, frame, now_ns); });
  if (!status.ok()) {
    HAVEN_LOG(kWarning, "hub") << "closing " << port.path << ": " << status.message();
    ClosePort(port);
  }
}

void Hub::ClosePort(Port& port) {
  port.connection.reset();
  port.reader = FrameReader();
  port.waiting.clear();
  port.watches_room = false;
}

void Hub::Deliver(size_t number, std::span<const std::byte> frame) {
  Port& port = ports_[number];
  // A host that is off hears nothing.
  if (!port.connection || port.waiting.size() + frame.size() > kWaitingBytesMax) return;
  AppendFrame(frame, port.waiting);
}

std::optional<int64_t> Hub::NextWakeNs() const {
  const std::optional<int64_t> due_ns = switch_.NextDueNs();
  if (stirred_.empty()) return due_ns;
  return std::min(stir_at_ns_, due_ns.value_or(stir_at_ns_));
}

void Hub::Stir(int64_t now_ns) {
  if (now_ns < stir_at_ns_) return;
  stir_at_ns_ = now_ns + kStirNs;
  static const Frame frame = StirringFrame();
  for (const size_t number : stirred_) {
    if (ports_[number].waiting.empty()) Deliver(number, frame);
  }
}

void Hub::FlushAll() {
  for (uint32_t number = 0; number < ports_.size(); ++number) Flush(number);
}

void Hub::Flush(uint32_t number) {
  Port& port = ports_[number];
  if (!port.connection) return;
  if (!port.waiting.empty()) {
    const ssize_t count = send(port.connection.get(), port.waiting.data(), port.waiting.size(),
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && !IsForLater(errno)) return ClosePort(port);
    if (count > 0) port.waiting.erase(port.waiting.begin(), port.waiting.begin() + count);
  }
  const bool wants_room = !port.waiting.empty();
  if (wants_room == port.watches_room) return;
  epoll_event event{};
  event.events = wants_room ? uint32_t{EPOLLIN} | uint32_t{EPOLLOUT} : uint32_t{EPOLLIN};
  event.data.u64 = static_cast<uint64_t>(Source::kConnection) << 32 | number;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, port.connection.get(), &event);
  port.watches_room = wants_room;
}

void Hub::AcceptControl() {
  UniqueFd connection = AcceptAt(control_listener_);
  if (!connection || clients_.size() >= kClientsMax) return;
  const uint32_t number = next_client_++;
  if (Watch(connection.get(), Source::kControl, number).ok()) {
    clients_.emplace(number, Client{std::move(connection), {}});
  }
}

void Hub::ReadControl(uint32_t number) {
  const auto found = clients_.find(number);
  if (found == clients_.end()) return;
  Client& client = found->second;
  std::array<char, 4096> bytes;
  const ssize_t count = read(client.connection.get(), bytes.data(), bytes.size());
  if (count < 0 && IsForLater(errno)) return;
  bool keep = count > 0;
  if (keep) client.line.append(bytes.data(), static_cast<size_t>(count));
  for (size_t end; keep && (end = client.line.find('\n')) != std::string::npos;) {
    const std::string answer = HandleCommand(client.line.substr(0, end), switch_) + "\n";
    client.line.erase(0, end + 1);
    const ssize_t sent = send(client.connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    keep = sent == static_cast<ssize_t>(answer.size());
  }
  if (!keep || client.line.size() > kCommandBytesMax) clients_.erase(found);
}

}  // namespace haven
