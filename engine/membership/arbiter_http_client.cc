// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {
namespace {

// Handles kept between requests; more exist only while more requests run at once.
constexpr size_t kIdleHandles = 4;

// libcurl wants this once, before any other call.
void InitializeCurl() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  HAVEN_CHECK(result == CURLE_OK) << curl_easy_strerror(result);
}

struct BoundedBody {
  std::string text;
  bool overflow = false;
};

size_t AppendToBody(char* data, size_t size, size_t count, void* context) {
  auto& body = *static_cast<BoundedBody*>(context);
  const size_t bytes = size * count;
  if (bytes > HttpClient::kBodyBytes - body.text.size()) {
    body.overflow = true;
    return 0;  // Ends the transfer.
  }
  body.text.append(data, bytes);
  return bytes;
}

}  // namespace

struct HttpClient::Handle {
  Handle()
      : curl(curl_easy_init()),
        headers(curl_slist_append(nullptr, "Content-Type: application/json")) {
    HAVEN_CHECK(curl != nullptr && headers != nullptr) << "out of memory";
  }
  ~Handle() {
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  template <typename T>
  void Set(CURLoption option, T value) {
    const CURLcode result = curl_easy_setopt(curl, option, value);
    HAVEN_CHECK(result == CURLE_OK)
        << "option " << static_cast<int>(option) << ": " << curl_easy_strerror(result);
  }

  CURL* const curl;
  curl_slist* const headers;
};

HttpClient::HttpClient(HttpTlsFiles tls) : tls_(std::move(tls)) { InitializeCurl(); }

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Handle> HttpClient::TakeHandle() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Handle> handle = std::move(idle_.back());
      idle_.pop_back();
      return handle;
    }
  }
  auto handle = std::make_unique<Handle>();
  handle->Set(CURLOPT_NOSIGNAL, 1L);
  handle->Set(CURLOPT_PROXY, "");
  handle->Set(CURLOPT_FOLLOWLOCATION, 0L);
  handle->Set(CURLOPT_PROTOCOLS_STR, "http,https");
  handle->Set(CURLOPT_HTTPHEADER, handle->headers);
  handle->Set(CURLOPT_WRITEFUNCTION, &AppendToBody);
  if (!tls_.ca.empty()) handle->Set(CURLOPT_CAINFO, tls_.ca.c_str());
  if (!tls_.cert.empty()) handle->Set(CURLOPT_SSLCERT, tls_.cert.c_str());
  if (!tls_.key.empty()) handle->Set(CURLOPT_SSLKEY, tls_.key.c_str());
  return handle;
}

void HttpClient::GiveBack(std::unique_ptr<Handle> handle) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.size() < kIdleHandles) idle_.push_back(std::move(handle));
}

absl::StatusOr<HttpReply> HttpClient::PostJson(const std::string& url, const std::string& json,
                                               absl::Duration timeout) {
  // For libcurl 0 means no timeout.
  const auto timeout_ms =
      static_cast<long>(std::max<int64_t>(1, absl::ToInt64Milliseconds(timeout)));
  std::unique_ptr<Handle> handle = TakeHandle();
  BoundedBody body;
  char reason[CURL_ERROR_SIZE] = "";
  handle->Set(CURLOPT_URL, url.c_str());
  handle->Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(json.size()));
  handle->Set(CURLOPT_POSTFIELDS, json.c_str());
  handle->Set(CURLOPT_TIMEOUT_MS, timeout_ms);
  handle->Set(CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
  handle->Set(CURLOPT_WRITEDATA, &body);
  handle->Set(CURLOPT_ERRORBUFFER, reason);
  const CURLcode result = curl_easy_perform(handle->curl);
  long code = 0;
  HAVEN_CHECK(curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE, &code) == CURLE_OK);
  handle->Set(CURLOPT_ERRORBUFFER, static_cast<char*>(nullptr));
  GiveBack(std::move(handle));
  if (result == CURLE_OK) return HttpReply{static_cast<int>(code), std::move(body.text)};
  if (body.overflow) {
    return absl::ResourceExhaustedError(
        absl::StrCat(url, " answered with more than ", kBodyBytes, " bytes"));
  }
  const absl::string_view detail = reason[0] != '\0' ? reason : curl_easy_strerror(result);
  if (result == CURLE_OPERATION_TIMEDOUT) {
    return absl::DeadlineExceededError(
        absl::StrCat(url, " did not answer within ", timeout_ms, " ms: ", detail));
  }
  return absl::UnavailableError(absl::StrCat(url, ": ", detail));
}

}  // namespace haven
