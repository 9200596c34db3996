// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_CREDENTIALS_H_
#define HAVEN_TRANSPORT_TLS_CREDENTIALS_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

inline constexpr size_t kPskBytes = 32;

struct OpensslDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

// Which proof the two sides of a control channel ask of each other; the same kind on both.
struct CredentialOptions {
  // Either a pre-shared key,
  std::string psk_file;
  // or certificates of one authority; both sides then have one.
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  // or, said explicitly, nothing at all.
  bool insecure = false;
};

// What becomes of an own certificate that has expired when it is loaded: whoever begins something
// is told so; a process that goes on with something shows it, so that the peer can say why it does
// not accept it.
enum class ExpiredCertificate : uint8_t { kRefused, kShown };

// What TLS needs of the options, loaded and checked. Immutable afterwards and thread-safe.
class Credentials {
 public:
  // Warning() speaks so long before the end of a certificate.
  static constexpr absl::Duration kWarnAhead = absl::Hours(24 * 14);

  // InvalidArgument: none or more than one kind is given, or a file does not hold what it should;
  // NotFound; PermissionDenied: a secret can be read by others, with the chmod to do; a certificate
  // that has expired is PermissionDenied as well. An insecure choice is logged as a warning.
  static absl::StatusOr<std::shared_ptr<const Credentials>> Load(
      const CredentialOptions& options, ExpiredCertificate expired = ExpiredCertificate::kRefused);

  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;
  ~Credentials();

  bool insecure() const { return context_ == nullptr; }
  bool uses_psk() const { return !psk_.empty(); }
  // Of the kind above. Not for insecure ones.
  SSL_CTX* context() const { return context_.get(); }
  // When the own certificate expires; InfiniteFuture: what is used does not.
  absl::Time ends() const { return ends_; }
  // For an operator, if the certificate has expired at `now` or soon will: which, when, and what to
  // do. Else empty.
  std::string Warning(absl::Time now) const;

 private:
  Credentials() = default;

  absl::Status LoadPsk(const std::string& path);
  absl::Status LoadCertificates(const CredentialOptions& options, ExpiredCertificate expired);

  std::unique_ptr<SSL_CTX, OpensslDeleter> context_;
  std::vector<unsigned char> psk_;
  std::string certificate_file_;
  absl::Time ends_ = absl::InfiniteFuture();
};

// What OpenSSL's error queue of this thread says, oldest first; clears it.
std::string TakeOpensslErrors();

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_CREDENTIALS_H_
