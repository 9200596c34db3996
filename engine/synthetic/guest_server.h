// SPDX-License-Identifier: Apache-2.0
//
// Serves the control sockets of a synthetic guest's process.
#ifndef HAVEN_ENGINE_SYNTHETIC_GUEST_SERVER_H_
#define HAVEN_ENGINE_SYNTHETIC_GUEST_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/synthetic/control_message.h"
#include "engine/synthetic/guest_machine.h"
#include "engine/synthetic/spec.h"

namespace haven {

struct GuestServerOptions {
  SyntheticSpec spec;
  std::string runtime_dir;
  // A copy that waits for its state, and does not outlive its starter until it runs.
  bool waiting = false;
};

// One guest and its connections: at most one controller, and a few others that ask and command.
// The loss of a connection changes nothing in the guest: a held gate stays held, a stopped guest
// stays stopped; but a waiting copy ends with its starter, unless it was told to outlive it.
// Single-threaded, apart from the vCPUs.
class GuestServer {
 public:
  // Takes the name, makes the guest and says so to `starter`, of which a duplicate becomes the
  // controller of a waiting copy. An error says why there is no guest.
  static absl::StatusOr<std::unique_ptr<GuestServer>> Create(const GuestServerOptions& options,
                                                             const UniqueFd& starter);
  ~GuestServer();

  // Serves until the guest is over: a waiting copy has lost its starter, or a guest that has ended
  // is neither attached nor buffered any more.
  void Run();

 private:
  struct Connection {
    UniqueFd socket;
    pid_t pid = 0;
    bool controller = false;
  };

  // Connections beyond this are closed at once.
  static constexpr size_t kMaxConnections = 16;

  explicit GuestServer(const GuestServerOptions& options) : options_(options) {}

  absl::Status SetUp(const UniqueFd& starter);
  bool Over() const;
  void AcceptConnection();
  // Handles what has arrived. False: the connection is to be closed.
  bool Serve(Connection& connection);
  Connection* Controller();

  // Each returns the reply's error, or fills in the reply.
  absl::Status Handle(Connection& connection, const GuestMessage& request, GuestMessage& reply);
  absl::Status HandleControl(const GuestMessage& request, GuestMessage& reply);
  absl::Status HandleUnrun(const GuestMessage& request);
  absl::Status Attach(Connection& connection);
  absl::Status EndGuest(const GuestMessage& request);
  absl::Status InjectFault(const GuestMessage& request);

  absl::Status Prepare(const GuestMessage& request);
  absl::Status Outlive();
  absl::Status LetRun();
  void Query(GuestMessage& reply);
  void GateStats(GuestMessage& reply);

  // Sends the reply to kAttach, with the descriptors.
  absl::Status SendAttached(const UniqueFd& socket, uint64_t id) const;

  const GuestServerOptions options_;
  UniqueFd listener_;
  UniqueFd pid_fd_;
  std::unique_ptr<GuestMachine> machine_;
  std::vector<Connection> connections_;
  // A copy that has not been let run, and whether it has its state.
  bool waiting_ = false;
  bool prepared_ = false;
  bool outlives_ = false;  // Its starter.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_GUEST_SERVER_H_
