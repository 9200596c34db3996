// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/transports.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "transport/shm/shm_transport.h"
#include "transport/verbs/verbs_address.h"
#include "transport/verbs/verbs_transport.h"

namespace haven {

namespace {

absl::Status CheckUnixAddress(const std::string& address) {
  // Longer paths are none for a socket (unix(7)).
  constexpr size_t kMaxBytes = 107;
  const bool known = absl::StartsWith(address, "unix:/") || absl::StartsWith(address, "unix:@");
  const bool plain = std::all_of(address.begin(), address.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (known && plain && address.size() <= std::strlen("unix:") + kMaxBytes) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unix:/PATH or unix:@NAME of at most ", kMaxBytes,
                                                 " printable characters, or ",
                                                 std::string(kVerbsAddressForm), ", is wanted"));
}

std::string AbsolutePath(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).string();
}

}  // namespace

absl::Status CheckAddress(const char* option, const std::string& address) {
  const absl::Status status =
      IsVerbsAddress(address) ? ParseVerbsAddress(address).status() : CheckUnixAddress(address);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(option, " \"", absl::CHexEscape(address), "\": ", status.message()));
}

std::string AddressFromHere(const std::string& peer, const std::string& own) {
  const absl::StatusOr<VerbsAddress> there = ParseVerbsAddress(peer);
  const absl::StatusOr<VerbsAddress> here = ParseVerbsAddress(own);
  if (!there.ok() || !here.ok()) return peer;
  std::string address = absl::StrCat(std::string(kVerbsScheme), there->host_and_port);
  if (!here->device.empty()) absl::StrAppend(&address, ",dev=", here->device);
  if (!here->rail.empty()) absl::StrAppend(&address, ",rail=", here->rail);
  return address;
}

std::vector<OptionSpec> CredentialSpecs() {
  return {
      {"psk", "FILE", "", "for rdma: the pre-shared key of both hosts (see keygen)"},
      {"ca", "FILE", "", "for rdma, instead: the authority of both hosts' certificates"},
      {"certificate", "FILE", "", "this host's certificate"},
      {"key", "FILE", "", "the key of that certificate"},
      {"insecure", "", "", "for rdma: neither encryption nor proof of who the peer is"},
  };
}

void ReadCredentials(const Options& options, GroupRecord* record) {
  record->psk_file = AbsolutePath(options.Text("psk"));
  record->ca_file = AbsolutePath(options.Text("ca"));
  record->certificate_file = AbsolutePath(options.Text("certificate"));
  record->key_file = AbsolutePath(options.Text("key"));
  record->insecure = options.Has("insecure");
}

absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(const std::string& address,
                                                         const GroupRecord& record,
                                                         ExpiredCertificate expired) {
  if (!IsVerbsAddress(address)) return std::make_unique<ShmTransport>();
  HAVEN_ASSIGN_OR_RETURN(const VerbsAddress parsed, ParseVerbsAddress(address));
  VerbsTransportOptions options;
  options.credentials = {.psk_file = record.psk_file,
                         .ca_file = record.ca_file,
                         .certificate_file = record.certificate_file,
                         .key_file = record.key_file,
                         .insecure = record.insecure};
  options.expired_certificate = expired;
  // A session's own door is at another address than the listener's, on the same device and rail.
  options.device = parsed.device;
  options.rail = parsed.rail;
  return MakeVerbsTransport(std::move(options));
}

}  // namespace haven
