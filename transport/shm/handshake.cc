// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/handshake.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "transport/shm/random_token.h"
#include "transport/shm/socket_io.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x53485648;  // "HVHS"
constexpr uint16_t kVersion = 1;
constexpr size_t kRecordBytes = 4 + 2 + 2 + kTokenBytes;

enum class Step : uint16_t { kHello = 1, kChallenge = 2, kResponse = 3 };

absl::Status CheckUser(uid_t uid) {
  if (uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("the peer runs as user ", uid,
                                                  ", this process as user ", geteuid(),
                                                  "; both must be the same user"));
}

absl::Status CheckConnectedUser(int socket) {
  ucred peer = {};
  socklen_t bytes = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "SO_PEERCRED");
  }
  return CheckUser(peer.uid);
}

absl::Status PassCredentials(int socket, bool on) {
  const int value = on ? 1 : 0;
  if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &value, sizeof(value)) != 0) {
    return absl::ErrnoToStatus(errno, "SO_PASSCRED");
  }
  return absl::OkStatus();
}

absl::Status SendStep(int socket, Step step, const Token& token, std::span<const int> fds,
                      const ShmDeadline& deadline) {
  std::array<std::byte, kRecordBytes> record;
  ByteWriter writer(record);
  writer.PutU32(kMagic);
  writer.PutU16(kVersion);
  writer.PutU16(static_cast<uint16_t>(step));
  writer.PutBytes(token);
  return SendAll(socket, record, deadline, {.fds = fds, .credentials = true});
}

struct StepReceived {
  Token token;
  pid_t pid = 0;
  std::vector<UniqueFd> fds;
};

absl::StatusOr<StepReceived> ReceiveStep(int socket, Step step, size_t fds_expected,
                                         const ShmDeadline& deadline) {
  std::array<std::byte, kRecordBytes> record;
  HAVEN_ASSIGN_OR_RETURN(ReceivedPiece received, ReceiveAll(socket, record, deadline));
  ByteReader reader(record);
  const uint32_t magic = reader.GetU32();
  const uint16_t version = reader.GetU16();
  const uint16_t got_step = reader.GetU16();
  if (magic != kMagic) {
    return absl::DataLossError(absl::StrCat("the peer does not speak this protocol: magic is ",
                                            absl::Hex(magic), ", not ", absl::Hex(kMagic)));
  }
  if (version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer speaks version ", version, " of the shm handshake, this process ",
                     kVersion, "; run the same release on both sides"));
  }
  if (received.cut) {
    return absl::DataLossError(
        "descriptors are missing: the peer sent too many, or this process is at RLIMIT_NOFILE");
  }
  if (got_step != static_cast<uint16_t>(step) || received.fds.size() != fds_expected) {
    return absl::DataLossError(absl::StrCat("out of step: got step ", got_step, " with ",
                                            received.fds.size(), " descriptors, expected step ",
                                            static_cast<uint16_t>(step), " with ", fds_expected));
  }
  if (!received.sender.has_value() || received.sender->pid <= 0) {
    return absl::PermissionDeniedError(
        "the peer's pid is not visible from here; run both sides in the same PID namespace");
  }
  HAVEN_RETURN_IF_ERROR(CheckUser(received.sender->uid));
  StepReceived result = {.token = {}, .pid = received.sender->pid, .fds = std::move(received.fds)};
  std::ranges::copy(reader.GetBytes(kTokenBytes), result.token.begin());
  return result;
}

// Sends the hello; the connector keeps its own end of the new connection.
absl::StatusOr<UniqueFd> SendHello(int socket, HandshakeSide side, const ShmDeadline& deadline) {
  if (side == HandshakeSide::kAcceptor) {
    HAVEN_RETURN_IF_ERROR(SendStep(socket, Step::kHello, Token{}, {}, deadline));
    return UniqueFd();
  }
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  UniqueFd own(pair[0]);
  const UniqueFd theirs(pair[1]);
  HAVEN_RETURN_IF_ERROR(
      SendStep(socket, Step::kHello, Token{}, std::span(pair).subspan(1, 1), deadline));
  return own;
}

}  // namespace

absl::StatusOr<HandshakeResult> RunHandshake(int socket, HandshakeSide side,
                                             const ShmDeadline& deadline) {
  HAVEN_RETURN_IF_ERROR(CheckConnectedUser(socket));
  HAVEN_RETURN_IF_ERROR(PassCredentials(socket, true));

  HandshakeResult result;
  HAVEN_ASSIGN_OR_RETURN(result.rendezvous, SendHello(socket, side, deadline));
  const size_t fds_expected = side == HandshakeSide::kAcceptor ? 1 : 0;
  HAVEN_ASSIGN_OR_RETURN(StepReceived hello,
                         ReceiveStep(socket, Step::kHello, fds_expected, deadline));
  if (side == HandshakeSide::kAcceptor) {
    const absl::Status sound = CheckUnixSocket(hello.fds[0].get(), SOCK_SEQPACKET);
    if (!sound.ok()) return absl::DataLossError(absl::StrCat("handshake: ", sound.message()));
    result.rendezvous = std::move(hello.fds[0]);
  }
  HAVEN_ASSIGN_OR_RETURN(result.peer, PeerProcess::Open(hello.pid));

  HAVEN_ASSIGN_OR_RETURN(const Token challenge, MakeRandomToken());
  HAVEN_RETURN_IF_ERROR(SendStep(socket, Step::kChallenge, challenge, {}, deadline));
  HAVEN_ASSIGN_OR_RETURN(const StepReceived theirs,
                         ReceiveStep(socket, Step::kChallenge, 0, deadline));
  HAVEN_RETURN_IF_ERROR(SendStep(socket, Step::kResponse, theirs.token, {}, deadline));
  HAVEN_ASSIGN_OR_RETURN(const StepReceived response,
                         ReceiveStep(socket, Step::kResponse, 0, deadline));
  if (response.token != challenge || response.pid != hello.pid) {
    return absl::PermissionDeniedError(absl::StrCat("the process that answered, pid ", response.pid,
                                                    ", is not the one that said hello, pid ",
                                                    hello.pid));
  }
  if (result.peer->IsDead()) {
    return absl::UnavailableError(
        absl::StrCat("the peer, pid ", hello.pid, ", has died during the handshake"));
  }
  HAVEN_RETURN_IF_ERROR(PassCredentials(socket, false));
  return result;
}

}  // namespace haven
