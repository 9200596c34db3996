// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/testing/shm_pair.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <span>
#include <thread>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "transport/shm/deadline.h"

namespace haven {

SocketPair::SocketPair() {
  int pair[2];
  HAVEN_CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  connector = UniqueFd(pair[0]);
  acceptor = UniqueFd(pair[1]);
}

absl::StatusOr<std::unique_ptr<ShmControlChannel>> OpenChannel(UniqueFd socket,
                                                               HandshakeSide side) {
  return ShmControlChannel::Open(std::move(socket), side, ShmDeadline(kTestTimeout), "unix:@test");
}

ChannelPair::ChannelPair() {
  SocketPair sockets;
  absl::StatusOr<std::unique_ptr<ShmControlChannel>> connected;
  std::thread connecting(
      [&] { connected = OpenChannel(std::move(sockets.connector), HandshakeSide::kConnector); });
  absl::StatusOr<std::unique_ptr<ShmControlChannel>> accepted =
      OpenChannel(std::move(sockets.acceptor), HandshakeSide::kAcceptor);
  connecting.join();
  HAVEN_CHECK_OK(connected);
  HAVEN_CHECK_OK(accepted);
  connector = *std::move(connected);
  acceptor = *std::move(accepted);
}

EndpointPair::EndpointPair(size_t region_bytes) {
  primary = *ShmEndpoint::Make(*channels.connector);
  backup = *ShmEndpoint::Make(*channels.acceptor);
  source = *primary->Register(region_bytes, RegionAccess::kLocal);
  journal = *backup->Register(region_bytes, RegionAccess::kRemoteWrite);
  peer_block = *primary->Register(region_bytes, RegionAccess::kRemoteWrite);
  journal_remote = *primary->Import(*backup->Offer(journal), kTestTimeout);
  peer_block_remote = *backup->Import(*primary->Offer(peer_block), kTestTimeout);
  Relink();
}

void EndpointPair::Relink() {
  const std::string blob = *backup->PrepareLink();
  to_backup = *primary->ConnectLink(blob, kTestTimeout);
  to_primary = *backup->AcceptLink(kTestTimeout);
}

absl::Status SendText(ControlChannel& channel, absl::string_view text) {
  return channel.Send(std::as_bytes(std::span(text.data(), text.size())), kTestTimeout);
}

absl::StatusOr<std::string> ReceiveText(ControlChannel& channel) {
  const ShmDeadline deadline(kTestTimeout);
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const std::optional<std::vector<std::byte>> message, channel.Receive());
    if (message.has_value()) {
      return std::string(reinterpret_cast<const char*>(message->data()), message->size());
    }
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(channel.fd(), POLLIN, deadline));
    if (!ready) return absl::DeadlineExceededError("no control message in time");
  }
}

std::vector<Completion> PollAll(Link& link) {
  std::array<Completion, 2048> room;
  const size_t count = link.Poll(room);
  return {room.begin(), room.begin() + static_cast<std::ptrdiff_t>(count)};
}

std::vector<Completion> Await(Link& link, size_t count) {
  const ShmDeadline deadline(kTestTimeout);
  std::vector<Completion> all;
  while (all.size() < count) {
    const absl::Status armed = link.ArmEvent();
    const std::vector<Completion> some = PollAll(link);
    all.insert(all.end(), some.begin(), some.end());
    if (all.size() >= count || !armed.ok()) break;
    if (!some.empty()) continue;
    const absl::StatusOr<bool> ready = WaitForFd(link.event_fd(), POLLIN, deadline);
    if (!ready.ok() || !*ready) break;
  }
  return all;
}

}  // namespace haven
