// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/secure_stream.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/tls/socket_bio.h"

namespace haven {
namespace {

constexpr absl::string_view kCompareKeys =
    "; both hosts need the same pre-shared key, or certificates of the same authority";

// Of the secrets that are exported (RFC 5705).
constexpr absl::string_view kExportLabel = "EXPORTER-haven-engine-seal";

// What the peer's alert, or this side's own finding, says about who the peer is.
bool IsAboutIdentity(int reason) {
  switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_NO_CERTIFICATE_SET:
    case SSL_R_NO_CERTIFICATE_ASSIGNED:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_BAD_PSK:
    case SSL_R_PSK_IDENTITY_NOT_FOUND:
    case SSL_R_DIGEST_CHECK_FAILED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return true;
    default:
      return false;
  }
}

class SecureStream final : public ByteStream {
 public:
  SecureStream(UniqueFd socket, std::shared_ptr<const Credentials> credentials,
               std::unique_ptr<SSL, OpensslDeleter> ssl)
      : socket_(std::move(socket)), credentials_(std::move(credentials)), ssl_(std::move(ssl)) {}

  // One step of the handshake.
  absl::StatusOr<Progress> Shake() {
    return Outcome([this] { return SSL_do_handshake(ssl_.get()); }, 1, nullptr);
  }

  absl::StatusOr<Progress> Read(std::span<std::byte> room) override {
    size_t bytes = 0;
    return Outcome([&] { return SSL_read_ex(ssl_.get(), room.data(), room.size(), &bytes); }, 0,
                   &bytes);
  }

  absl::StatusOr<Progress> Write(std::span<const std::byte> bytes) override {
    size_t sent = 0;
    return Outcome([&] { return SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent); }, 0,
                   &sent);
  }

  bool secure() const override { return true; }

  absl::Status ExportSecret(std::span<const std::byte> context,
                            std::span<std::byte> secret) const override {
    ERR_clear_error();
    const int made = SSL_export_keying_material(
        ssl_.get(), reinterpret_cast<unsigned char*>(secret.data()), secret.size(),
        kExportLabel.data(), kExportLabel.size(),
        reinterpret_cast<const unsigned char*>(context.data()), context.size(), 1);
    if (made == 1) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("no secret of this TLS channel: ", TakeOpensslErrors()));
  }

  int fd() const override { return socket_.get(); }
  bool buffered() const override { return SSL_has_pending(ssl_.get()) == 1; }
  std::string PeerName() const override { return peer_name_; }

  // After the handshake: the peer has proved itself, by what was asked of it.
  absl::Status CheckPeer() {
    if (credentials_->uses_psk()) {
      if (SSL_session_reused(ssl_.get()) == 1) return absl::OkStatus();
      return absl::PermissionDeniedError(
          absl::StrCat("the peer does not have the pre-shared key", kCompareKeys));
    }
    const X509* const certificate = SSL_get0_peer_certificate(ssl_.get());
    if (certificate == nullptr || SSL_get_verify_result(ssl_.get()) != X509_V_OK) {
      return absl::PermissionDeniedError("the peer has no certificate");
    }
    std::array<char, 128> name = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name.data(),
                              static_cast<int>(name.size()));
    peer_name_ = name.data();
    return absl::OkStatus();
  }

 private:
  template <typename Call>
  absl::StatusOr<Progress> Outcome(Call call, size_t bytes_of_success, const size_t* bytes) {
    ERR_clear_error();
    errno = 0;
    const int result = call();
    const int error = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_NONE:
        return Progress{.bytes = bytes != nullptr ? *bytes : bytes_of_success};
      case SSL_ERROR_WANT_READ:
        return Progress{.wait = Wait::kReadable};
      case SSL_ERROR_WANT_WRITE:
        return Progress{.wait = Wait::kWritable};
      case SSL_ERROR_ZERO_RETURN:
        return absl::UnavailableError("the peer has closed the connection");
      case SSL_ERROR_SYSCALL:
        if (error == 0) return absl::UnavailableError("the peer has closed the connection");
        return StreamError(error, "TLS");
      default:
        return ProtocolError();
    }
  }

  absl::Status ProtocolError() {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    const long verified = SSL_get_verify_result(ssl_.get());
    const std::string detail = TakeOpensslErrors();
    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      return absl::UnavailableError("the peer has closed the connection");
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK) {
      return absl::PermissionDeniedError(absl::StrCat(
          "the peer's certificate is not accepted: ", X509_verify_cert_error_string(verified),
          verified == X509_V_ERR_CERT_HAS_EXPIRED
              ? "; issue a new one for that host with haven-engine keygen"
              : kCompareKeys));
    }
    if (reason == SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED) {
      return absl::PermissionDeniedError(
          absl::StrCat("the peer does not accept this host's certificate, because it has expired; "
                       "issue a new one with haven-engine keygen (",
                       detail, ")"));
    }
    if (IsAboutIdentity(reason)) {
      return absl::PermissionDeniedError(
          absl::StrCat("authentication has failed: ", detail, kCompareKeys));
    }
    return absl::DataLossError(absl::StrCat("the peer does not speak TLS 1.3 as agreed: ", detail));
  }

  const UniqueFd socket_;
  const std::shared_ptr<const Credentials> credentials_;
  const std::unique_ptr<SSL, OpensslDeleter> ssl_;
  std::string peer_name_;
};

absl::Status RunHandshake(SecureStream& stream, const NetDeadline& deadline) {
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const ByteStream::Progress step, stream.Shake());
    if (step.wait == ByteStream::Wait::kNothing) return stream.CheckPeer();
    const short events = step.wait == ByteStream::Wait::kReadable ? POLLIN : POLLOUT;
    HAVEN_ASSIGN_OR_RETURN(const bool ready, WaitForFd(stream.fd(), events, deadline));
    if (!ready) return absl::DeadlineExceededError("the TLS handshake takes too long");
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteStream>> MakeSecureStream(
    UniqueFd socket, StreamSide side, std::shared_ptr<const Credentials> credentials,
    const NetDeadline& deadline) {
  ERR_clear_error();
  std::unique_ptr<SSL, OpensslDeleter> ssl(SSL_new(credentials->context()));
  BIO* const bio = ssl == nullptr ? nullptr : MakeSocketBio(socket.get());
  if (bio == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for TLS: ", TakeOpensslErrors()));
  }
  // One object for both directions, owned by `ssl` from here on.
  SSL_set_bio(ssl.get(), bio, bio);
  if (side == StreamSide::kConnector) {
    SSL_set_connect_state(ssl.get());
  } else {
    SSL_set_accept_state(ssl.get());
  }
  auto stream =
      std::make_unique<SecureStream>(std::move(socket), std::move(credentials), std::move(ssl));
  HAVEN_RETURN_IF_ERROR(RunHandshake(*stream, deadline));
  return std::unique_ptr<ByteStream>(std::move(stream));
}

}  // namespace haven
