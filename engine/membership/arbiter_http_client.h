// SPDX-License-Identifier: Apache-2.0
//
// The HTTP that EtcdArbiter needs: one JSON request, one bounded answer, one timeout.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_CLIENT_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_CLIENT_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace haven {

// PEM files, by absolute path; empty: none.
struct HttpTlsFiles {
  std::string ca;    // Who may sign the server's certificate. Empty: what the system trusts.
  std::string cert;  // The client's certificate; goes with `key`.
  std::string key;
};

struct HttpReply {
  int code = 0;  // The HTTP status code, also one that means an error.
  std::string body;
};

// Connections are kept and used again. Neither proxies from the environment nor redirections are
// followed: the answer must come from the very server that was named. Thread-safe.
class HttpClient {
 public:
  static constexpr size_t kBodyBytes = 64 * 1024;

  explicit HttpClient(HttpTlsFiles tls);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // POSTs `json` to `url` (http or https) and returns whatever answer came within `timeout`.
  // Unavailable: none came, with libcurl's reason. DeadlineExceeded: not in time.
  // ResourceExhausted: a body of more than kBodyBytes. After any of these the server may have
  // carried out the request.
  absl::StatusOr<HttpReply> PostJson(const std::string& url, const std::string& json,
                                     absl::Duration timeout);

 private:
  // A libcurl handle, with the connections it keeps. Defined in the .cc: only that includes curl.
  struct Handle;

  std::unique_ptr<Handle> TakeHandle();
  void GiveBack(std::unique_ptr<Handle> handle);

  const HttpTlsFiles tls_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> idle_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_CLIENT_H_
