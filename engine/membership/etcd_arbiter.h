// SPDX-License-Identifier: Apache-2.0
//
// The register in an etcd cluster.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ETCD_ARBITER_H_
#define HAVEN_ENGINE_MEMBERSHIP_ETCD_ARBITER_H_

#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_http_client.h"

namespace haven {

struct EtcdOptions {
  std::vector<std::string> endpoints;  // "host:port", one at least; IPv6 as "[::1]:2379".
  HttpTlsFiles tls;                    // Any file named here: https instead of http.
};

// Keeps the register of group G as the text of key /haven/G, through etcd's JSON gateway (API v3,
// etcd 3.4 and later). Reads are linearizable; a change is one transaction that compares the whole
// old text (or that the key does not exist) and returns the current one when it differs.
//
// The endpoints are members of one cluster. The one that answered last is asked first; each gets an
// equal share of the time that is left. Asking a second one while the first may still carry the
// change out is safe for the same reason as repeating a request is.
//
// Thread-safe.
class EtcdArbiter final : public Arbiter {
 public:
  explicit EtcdArbiter(EtcdOptions options);

  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override;
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override;
  std::string Describe() const override;

 private:
  // The body of the first answer with HTTP code 200. The error names what each endpoint said.
  absl::StatusOr<std::string> Call(absl::string_view path, const std::string& json,
                                   const Deadline& deadline);

  absl::StatusOr<RegisterAnswer> ReadOnce(absl::string_view group, const Deadline& deadline);
  absl::StatusOr<RegisterAnswer> ChangeOnce(absl::string_view group, const RegisterRequest& request,
                                            const Deadline& deadline);

  const std::vector<std::string> endpoints_;
  const std::string scheme_;
  HttpClient http_;
  std::atomic<size_t> preferred_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ETCD_ARBITER_H_
