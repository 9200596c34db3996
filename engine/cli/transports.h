// SPDX-License-Identifier: Apache-2.0
//
// Which transport an address means, and what it needs to prove who is who.
#ifndef HAVEN_ENGINE_CLI_TRANSPORTS_H_
#define HAVEN_ENGINE_CLI_TRANSPORTS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cli/options.h"
#include "engine/control/group_record.h"
#include "transport/endpoint.h"
#include "transport/tls/credentials.h"

namespace haven {

// The forms of an address, for --help.
inline constexpr char kAddressForms[] = "unix:/PATH, rdma:HOST:PORT[,dev=DEVICE][,rail=ADDRESS]";

// InvalidArgument, with the option, unless a transport of this binary knows such an address.
absl::Status CheckAddress(const char* option, const std::string& address);

// Where `peer` says that it listens, as this host is to connect there: what an RDMA address says of
// a device and a rail is about the host that uses it, so these are taken from `own`, at which this
// host listens. Addresses of Unix sockets, and what is no address, are returned as they are.
std::string AddressFromHere(const std::string& peer, const std::string& own);

// psk, ca, certificate, key, insecure.
std::vector<OptionSpec> CredentialSpecs();

// Puts what is given of them into the record, with absolute paths.
void ReadCredentials(const Options& options, GroupRecord* record);

// Makes the transport of a checked address with the credentials of `record`, which RDMA needs and
// Unix sockets, whose peers are of this host, do not. Errors: those of MakeVerbsTransport.
absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(
    const std::string& address, const GroupRecord& record,
    ExpiredCertificate expired = ExpiredCertificate::kRefused);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_TRANSPORTS_H_
