// SPDX-License-Identifier: Apache-2.0
//
// What EtcdArbiter says to etcd and hears from it: the JSON of etcd's gRPC gateway, API v3 (etcd
// documentation, "gRPC gateway" and "API reference"). Keys and values are base64, 64-bit integers
// are strings, and fields with their default value are left out.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_MESSAGES_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_MESSAGES_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/register.h"

namespace haven {

// "/haven/GROUP".
std::string EtcdKey(absl::string_view group);

// Body for /v3/kv/range: a linearizable read of one key.
std::string EncodeEtcdRange(absl::string_view group);

// Body for /v3/kv/txn: if the key holds the expected text (or has version 0: it does not exist),
// put the desired one, else return what it holds.
std::string EncodeEtcdChange(absl::string_view group, const RegisterRequest& request);

// The register in a range's response; nullopt: there is none. DataLoss names what is wrong with the
// response or the stored text.
absl::StatusOr<std::optional<Register>> DecodeEtcdRange(absl::string_view group,
                                                        absl::string_view body);

struct EtcdChangeResult {
  bool succeeded = false;
  std::optional<Register> current;  // What the key held when the comparison failed.
};

// DataLoss as above.
absl::StatusOr<EtcdChangeResult> DecodeEtcdChange(absl::string_view group, absl::string_view body);

// What etcd says in the body of an HTTP error, or the body's beginning; printable and short.
std::string EtcdErrorText(absl::string_view body);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_MESSAGES_H_
