// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_KEYGEN_H_
#define HAVEN_TRANSPORT_TLS_KEYGEN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace haven {

// Makes what Credentials loads. Nothing that exists is overwritten (AlreadyExists); a file that
// holds a secret has mode 0600 from its first moment, certificates have 0644. Each file is on the
// disk when the call returns. Other errors: those of open(2) and write(2), Internal from OpenSSL.

// When a certificate begins and ceases to be valid, from now on.
struct CertificateTerm {
  absl::Duration begins = -absl::Minutes(10);  // For a peer whose clock is behind.
  absl::Duration ends = absl::Hours(24 * 730);
};
inline constexpr CertificateTerm kAuthorityTerm = {.ends = absl::Hours(24 * 3650)};

// A pre-shared key of 32 random bytes as 64 hexadecimal digits. The same file goes to both hosts.
absl::Status MakePskFile(const std::string& path);

// An authority: ca.crt, which goes to every node, and ca.key, which stays where nodes are admitted.
absl::Status MakeAuthority(const std::string& directory,
                           const CertificateTerm& term = kAuthorityTerm);

// A node of the authority in `directory`: NODE.crt and NODE.key, which go to that node. `node` is 1
// to 63 letters, digits, dots and hyphens, not beginning with a dot (InvalidArgument). NotFound:
// there is no authority.
absl::Status IssueCertificate(const std::string& directory, absl::string_view node,
                              const CertificateTerm& term = {});

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_KEYGEN_H_
