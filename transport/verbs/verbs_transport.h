// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_VERBS_TRANSPORT_H_
#define HAVEN_TRANSPORT_VERBS_VERBS_TRANSPORT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "transport/endpoint.h"
#include "transport/tls/credentials.h"
#include "transport/verbs/verbs_endpoint.h"

namespace haven {

struct VerbsTransportOptions {
  CredentialOptions credentials;
  ExpiredCertificate expired_certificate = ExpiredCertificate::kRefused;
  // RDMA device of this host; empty: the one that owns the control connection's local address.
  std::string device;
  // An address of this host that belongs to an RDMA device, for a second path; empty: none.
  std::string rail;
  VerbsEndpointOptions endpoint;
};

// Two hosts with RDMA: messages over TCP with TLS 1.3 ("rdma:HOST:PORT", see verbs_address.h),
// memory and links over libibverbs and librdmacm (verbs_endpoint.h, verbs_link.h). `dev=` and
// `rail=` of an address that is listened at or connected to take the place of the options'.
//
// Listen("") listens at a free port of the address by which the last adopted connection has come,
// so that a session's own door can be reached by whoever has reached the host.
//
// A certificate whose end is near is loaded again now and then, so that a new one in its place is
// used without a new process.
//
// Thread-safe; what it makes is used as endpoint.h says. The endpoint's calls go beside the
// channel, which may be used by another thread at the same time. Errors besides those of
// endpoint.h: PermissionDenied (the peer has not proved who it is), DataLoss (it does not speak
// this protocol), FailedPrecondition (another version of it; Attach: another process than the
// session's; a device without a feature that is needed), NotFound (no RDMA device owns the address;
// an unknown host), AlreadyExists from Listen (the address is taken), InvalidArgument (a malformed
// address; a channel or endpoint of another transport).
//
// The errors of CheckVerbsOptions, Credentials::Load and MakeIncarnation.
absl::StatusOr<std::unique_ptr<Transport>> MakeVerbsTransport(VerbsTransportOptions options);

// InvalidArgument: a retry count beyond 6, which means "for ever" to some device, a timer or time
// beyond its range, or a rail that is no address.
absl::Status CheckVerbsOptions(const VerbsTransportOptions& options);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_VERBS_TRANSPORT_H_
