// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_CREDENTIALS_H_
#define HAVEN_TRANSPORT_TLS_CREDENTIALS_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

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

// What TLS needs of the options, loaded and checked. Immutable afterwards and thread-safe.
class Credentials {
 public:
  // InvalidArgument: none or more than one kind is given, or a file does not hold what it should;
  // NotFound; PermissionDenied: a secret can be read by others, with the chmod to do; a certificate
  // that has expired is PermissionDenied as well. An insecure choice is logged as a warning.
  static absl::StatusOr<std::shared_ptr<const Credentials>> Load(const CredentialOptions& options);

  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;
  ~Credentials();

  bool insecure() const { return context_ == nullptr; }
  bool uses_psk() const { return !psk_.empty(); }
  // Of the kind above. Not for insecure ones.
  SSL_CTX* context() const { return context_.get(); }

 private:
  Credentials() = default;

  absl::Status LoadPsk(const std::string& path);
  absl::Status LoadCertificates(const CredentialOptions& options);

  std::unique_ptr<SSL_CTX, OpensslDeleter> context_;
  std::vector<unsigned char> psk_;
};

// What OpenSSL's error queue of this thread says, oldest first; clears it.
std::string TakeOpensslErrors();

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_CREDENTIALS_H_
