// SPDX-License-Identifier: Apache-2.0
//
// The virtual network of the lab as a program: a socket per port for QEMU, one for scenarios.
#ifndef HAVEN_TESTS_LAB_HUB_HUB_H_
#define HAVEN_TESTS_LAB_HUB_HUB_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "tests/lab/hub/frame_stream.h"
#include "tests/lab/hub/switch.h"

namespace haven {

struct PortSpec {
  std::string name;
  std::string network;
  std::string path;      // Of the socket that its QEMU connects to.
  bool stirred = false;  // It gets a frame that means nothing every kStirNs.
};

// Joins ports by a Switch. A new connection to a port takes the place of the one before, as when a
// host is switched off and on. One thread does everything; not thread-safe.
class Hub {
 public:
  // What may wait for a host that does not read; more is dropped, as in a switch.
  static constexpr size_t kWaitingBytesMax = size_t{4} << 20;
  static constexpr size_t kCommandBytesMax = 65536;
  // QEMU's emulation of nested virtualisation can lose that a timer's interrupt is pending
  // (docs/lab.md, traps). The host then stands still until any other interrupt comes, so a stirred
  // port brings one. Each costs the host's guests their processor for a moment.
  static constexpr int64_t kStirNs = 100 * kNsPerMs;

  // Makes the sockets. AlreadyExists: a port twice; Unavailable: a socket can not be made.
  static absl::StatusOr<std::unique_ptr<Hub>> Start(const std::vector<PortSpec>& ports,
                                                    const std::string& control_path, uint64_t seed,
                                                    const Clock& clock);
  // Removes the sockets.
  ~Hub();

  // Works until `stop_fd` becomes readable. Internal: the kernel refuses to wait for events.
  absl::Status Run(int stop_fd);

 private:
  struct Port {
    std::string path;
    UniqueFd listener;
    UniqueFd connection;
    FrameReader reader;
    std::vector<std::byte> waiting;
    bool watches_room = false;  // For more of `waiting` in the connection's buffer.
  };

  // What an event is about; the number goes with it.
  enum class Source : uint32_t { kStop, kListener, kConnection, kControlListener, kControl };

  Hub(uint64_t seed, const Clock& clock);
  absl::Status Listen(const std::vector<PortSpec>& ports, const std::string& control_path);
  absl::Status Watch(int fd, Source source, uint32_t number);
  void Handle(const epoll_event& event);
  void AcceptPort(uint32_t number);
  void ReadPort(uint32_t number);
  void ClosePort(Port& port);
  void Deliver(size_t number, std::span<const std::byte> frame);
  std::optional<int64_t> NextWakeNs() const;
  void Stir(int64_t now_ns);
  void Flush(uint32_t number);
  void FlushAll();
  void AcceptControl();
  void ReadControl(uint32_t number);

  const Clock& clock_;
  Switch switch_;
  UniqueFd epoll_;
  std::vector<Port> ports_;
  std::vector<size_t> stirred_;  // Of the ports.
  int64_t stir_at_ns_ = 0;
  std::string control_path_;
  UniqueFd control_listener_;
  struct Client {
    UniqueFd connection;
    std::string line;
  };
  std::map<uint32_t, Client> clients_;
  uint32_t next_client_ = 0;
  std::vector<std::byte> buffer_;
  bool stopped_ = false;
};

}  // namespace haven

#endif  // HAVEN_TESTS_LAB_HUB_HUB_H_
