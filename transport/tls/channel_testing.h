// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_CHANNEL_TESTING_H_
#define HAVEN_TRANSPORT_TLS_CHANNEL_TESTING_H_

#include <poll.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/short_folder_testing.h"
#include "transport/tls/credentials.h"
#include "transport/tls/keygen.h"
#include "transport/tls/tcp_listener.h"
#include "transport/tls/tls_control_channel.h"

namespace haven {

// A folder of its own for a test's keys.
class KeyFolder {
 public:
  std::string path(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  const std::string& folder() const { return path_; }

  // Options of a node of the authority here, which is made if it is not there yet.
  CredentialOptions Node(absl::string_view node, const CertificateTerm& term = {}) const {
    if (!std::filesystem::exists(path("ca.crt"))) HAVEN_CHECK_OK(MakeAuthority(path_));
    HAVEN_CHECK_OK(IssueCertificate(path_, node, term));
    CredentialOptions options;
    options.ca_file = path("ca.crt");
    options.certificate_file = path(absl::StrCat(node, ".crt"));
    options.key_file = path(absl::StrCat(node, ".key"));
    return options;
  }
  CredentialOptions Psk(absl::string_view name) const {
    if (!std::filesystem::exists(path(name))) HAVEN_CHECK_OK(MakePskFile(path(name)));
    CredentialOptions options;
    options.psk_file = path(name);
    return options;
  }

 private:
  const ShortFolder folder_;
  const std::string path_ = folder_.path();
};

inline CredentialOptions Insecure() {
  CredentialOptions options;
  options.insecure = true;
  return options;
}

inline std::shared_ptr<const Credentials> LoadOrDie(const CredentialOptions& options) {
  auto credentials = Credentials::Load(options);
  HAVEN_CHECK_OK(credentials);
  return *credentials;
}

inline constexpr absl::Duration kTestTimeout = absl::Seconds(10);

using ChannelOr = absl::StatusOr<std::unique_ptr<TlsControlChannel>>;

// Both ends of a connection over the loopback interface, each with credentials of its own.
struct TlsChannelPair {
  ChannelOr connector;
  ChannelOr acceptor;
};

// A connection accepted at `listener`.
inline UniqueFd AcceptOne(TcpListener& listener) {
  HAVEN_CHECK(*WaitForFd(listener.fd(), POLLIN, NetDeadline(kTestTimeout)));
  const absl::StatusOr<std::optional<int>> fd = listener.Accept();
  HAVEN_CHECK(fd.ok() && fd->has_value());
  return UniqueFd(**fd);
}

inline std::unique_ptr<TcpListener> ListenLocally() {
  auto listener = TcpListener::Listen(*InetAddress::Resolve("127.0.0.1:0"), "tcp:");
  HAVEN_CHECK_OK(listener);
  return *std::move(listener);
}

inline TlsChannelPair Pair(const CredentialOptions& connector, const CredentialOptions& acceptor) {
  const std::unique_ptr<TcpListener> listener = ListenLocally();
  TlsChannelPair pair = {absl::UnknownError("not tried"), absl::UnknownError("not tried")};
  std::thread accepting([&] {
    pair.acceptor =
        TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(acceptor),
                                *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:connector");
  });
  pair.connector =
      TlsControlChannel::Connect(listener->bound(), LoadOrDie(connector), *MakeIncarnation(),
                                 NetDeadline(kTestTimeout), "tcp:acceptor");
  accepting.join();
  return pair;
}

inline std::vector<std::byte> Bytes(size_t count, uint8_t value) {
  return std::vector<std::byte>(count, std::byte{value});
}

// The next message, waited for.
inline absl::StatusOr<std::vector<std::byte>> Wait(ControlChannel& channel) {
  const NetDeadline deadline(kTestTimeout);
  for (;;) {
    absl::StatusOr<std::optional<std::vector<std::byte>>> message = channel.Receive();
    if (!message.ok()) return message.status();
    if (message->has_value()) return **std::move(message);
    if (!*WaitForFd(channel.fd(), POLLIN, deadline)) return absl::DeadlineExceededError("nothing");
  }
}

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_CHANNEL_TESTING_H_
