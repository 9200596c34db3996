// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_TESTING_SHM_PAIR_H_
#define HAVEN_TRANSPORT_SHM_TESTING_SHM_PAIR_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "transport/endpoint.h"
#include "transport/shm/shm_control_channel.h"
#include "transport/shm/shm_endpoint.h"

namespace haven {

// Longer than anything in a test takes, so that a test that hangs fails.
inline constexpr absl::Duration kTestTimeout = absl::Seconds(20);

// Two connected stream sockets. Fork between making them and using them to get two processes.
struct SocketPair {
  SocketPair();
  UniqueFd connector;
  UniqueFd acceptor;
};

absl::StatusOr<std::unique_ptr<ShmControlChannel>> OpenChannel(UniqueFd socket, HandshakeSide side);

// Both ends of a channel in this process; the handshake takes a second thread, which has ended
// then.
struct ChannelPair {
  ChannelPair();
  std::unique_ptr<ShmControlChannel> connector;
  std::unique_ptr<ShmControlChannel> acceptor;
};

// Primary (connector) and backup (acceptor) in this process, with a region in each that the other
// one may write, and a source region in the primary.
struct EndpointPair {
  explicit EndpointPair(size_t region_bytes = 64 << 10);

  // Replaces the links: backup prepares, primary connects.
  void Relink();

  ChannelPair channels;
  std::unique_ptr<ShmEndpoint> primary;
  std::unique_ptr<ShmEndpoint> backup;
  LocalRegion source;   // The primary's.
  LocalRegion journal;  // The backup's.
  RemoteRegion journal_remote;
  LocalRegion peer_block;  // The primary's, written by the backup.
  RemoteRegion peer_block_remote;
  std::unique_ptr<Link> to_backup;   // The primary's end.
  std::unique_ptr<Link> to_primary;  // The backup's end.
};

// Control messages as text; both fail after kTestTimeout.
absl::Status SendText(ControlChannel& channel, absl::string_view text);
absl::StatusOr<std::string> ReceiveText(ControlChannel& channel);

// Polls until `count` completions are there, sleeping on the link's event in between; fewer after
// kTestTimeout.
std::vector<Completion> Await(Link& link, size_t count);

// Polls once.
std::vector<Completion> PollAll(Link& link);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_TESTING_SHM_PAIR_H_
