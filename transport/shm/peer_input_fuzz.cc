// SPDX-License-Identifier: Apache-2.0
//
// All that a peer's bytes can reach. Input: one byte that says where the rest goes.
//   0  a region blob
//   1  a link blob
//   2  the rendezvous: packets of {length u8, number of descriptors u8, bytes}
//   3  the acceptor's side of a handshake
//   4  the stream of an open control channel
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/check.h"
#include "transport/shm/blob.h"
#include "transport/shm/handshake.h"
#include "transport/shm/rendezvous.h"
#include "transport/shm/socket_io.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

absl::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void RunRegionBlob(std::span<const std::byte> input) {
  const auto blob = DecodeRegionBlob(AsText(input));
  if (blob.ok()) HAVEN_CHECK(EncodeRegionBlob(*blob) == AsText(input));
}

void RunLinkBlob(std::span<const std::byte> input) {
  const auto blob = DecodeLinkBlob(AsText(input));
  if (blob.ok()) HAVEN_CHECK(EncodeLinkBlob(*blob) == AsText(input));
}

void RunRendezvous(std::span<const std::byte> input) {
  int pair[2];
  HAVEN_CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd peer(pair[0]);
  Rendezvous rendezvous(UniqueFd(pair[1]), "the fuzzer");
  const int fds[] = {STDERR_FILENO, STDERR_FILENO};
  while (input.size() > 2) {
    const size_t bytes = std::min<size_t>(std::to_integer<size_t>(input[0]), input.size() - 2);
    const size_t fd_count = std::to_integer<size_t>(input[1]) % (kMaxAttachedFds + 1);
    if (bytes > 0) {
      const auto sent =
          SendPiece(peer.get(), input.subspan(2, bytes), {.fds = std::span(fds).first(fd_count)});
      if (!sent.ok() || *sent == 0) break;
    }
    input = input.subspan(2 + bytes);
  }
  peer.reset();
  const auto claimed = rendezvous.Claim(RendezvousKind::kLink, Token{});
  HAVEN_CHECK(claimed.ok() || absl::IsDataLoss(claimed.status())) << claimed.status();
  if (claimed.ok() && claimed->has_value()) HAVEN_CHECK_EQ((*claimed)->size(), 2u);
}

void RunHandshakeInput(std::span<const std::byte> input) {
  SocketPair sockets;
  if (!input.empty()) {
    HAVEN_CHECK_OK(SendAll(sockets.connector.get(), input, ShmDeadline(kTestTimeout)));
  }
  // It can not know the challenge, and brings no descriptor.
  HAVEN_CHECK(!RunHandshake(sockets.acceptor.get(), HandshakeSide::kAcceptor,
                            ShmDeadline(absl::ZeroDuration()))
                   .ok());
}

// Gives all of `input` to an open channel, in pieces, so that every place of a cut is tried.
void RunStream(std::span<const std::byte> input) {
  const ChannelPair pair;
  for (size_t piece = 1; !input.empty(); piece = piece * 2 % 1023 + 1) {
    const auto now = input.first(std::min(piece, input.size()));
    HAVEN_CHECK_OK(SendAll(pair.connector->fd(), now, ShmDeadline(kTestTimeout)));
    input = input.subspan(now.size());
    for (;;) {
      const auto message = pair.acceptor->Receive();
      if (!message.ok()) {
        HAVEN_CHECK(absl::IsDataLoss(message.status())) << message.status();
        return;
      }
      if (!message->has_value()) break;
      HAVEN_CHECK(!(*message)->empty());
    }
  }
}

void RunOne(std::span<const std::byte> input) {
  if (input.empty()) return;
  const auto rest = input.subspan(1);
  switch (std::to_integer<int>(input[0]) % 5) {
    case 0:
      return RunRegionBlob(rest);
    case 1:
      return RunLinkBlob(rest);
    case 2:
      return RunRendezvous(rest);
    case 3:
      return RunHandshakeInput(rest);
    case 4:
      return RunStream(rest);
  }
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
