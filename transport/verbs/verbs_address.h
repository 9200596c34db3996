// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_VERBS_ADDRESS_H_
#define HAVEN_TRANSPORT_VERBS_VERBS_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

inline constexpr absl::string_view kVerbsScheme = "rdma:";
inline constexpr absl::string_view kVerbsAddressForm =
    "rdma:HOST:PORT[,dev=DEVICE][,rail=LOCAL-ADDRESS]";

// "rdma:10.0.0.2:7000,dev=mlx5_0,rail=10.1.0.1". What follows the port is about this host: the RDMA
// device to use instead of the one that owns the control connection's address, and an address of
// this host, owned by an RDMA device, for a second path.
struct VerbsAddress {
  std::string host_and_port;
  std::string device;
  std::string rail;
};

// InvalidArgument names what is wrong and the form.
absl::StatusOr<VerbsAddress> ParseVerbsAddress(absl::string_view text);

// Whether `text` is for this transport.
bool IsVerbsAddress(absl::string_view text);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_VERBS_ADDRESS_H_
