// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/etcd_arbiter.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_etcd_messages.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {
namespace {

constexpr int kHttpOk = 200;

bool UsesTls(const HttpTlsFiles& tls) {
  return !tls.ca.empty() || !tls.cert.empty() || !tls.key.empty();
}

}  // namespace

EtcdArbiter::EtcdArbiter(EtcdOptions options)
    : endpoints_(std::move(options.endpoints)),
      scheme_(UsesTls(options.tls) ? "https://" : "http://"),
      http_(std::move(options.tls)) {
  HAVEN_CHECK(!endpoints_.empty());
}

RegisterAnswer EtcdArbiter::Read(absl::string_view group, absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group, ReadOnce(group, Deadline(timeout)));
}

RegisterAnswer EtcdArbiter::CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                          absl::Duration timeout) {
  return AnswerOrUnknown(Describe(), group, ChangeOnce(group, request, Deadline(timeout)));
}

std::string EtcdArbiter::Describe() const {
  return absl::StrCat("etcd:", absl::StrJoin(endpoints_, ","));
}

absl::StatusOr<RegisterAnswer> EtcdArbiter::ReadOnce(absl::string_view group,
                                                     const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_ASSIGN_OR_RETURN(const std::string body,
                         Call("/v3/kv/range", EncodeEtcdRange(group), deadline));
  HAVEN_ASSIGN_OR_RETURN(std::optional<Register> current, DecodeEtcdRange(group, body));
  return GrantedAnswer(std::move(current));
}

absl::StatusOr<RegisterAnswer> EtcdArbiter::ChangeOnce(absl::string_view group,
                                                       const RegisterRequest& request,
                                                       const Deadline& deadline) {
  HAVEN_RETURN_IF_ERROR(ValidateGroupName(group));
  HAVEN_RETURN_IF_ERROR(ValidateRequest(request));
  HAVEN_ASSIGN_OR_RETURN(const std::string body,
                         Call("/v3/kv/txn", EncodeEtcdChange(group, request), deadline));
  HAVEN_ASSIGN_OR_RETURN(const EtcdChangeResult result, DecodeEtcdChange(group, body));
  if (result.succeeded) return GrantedAnswer(request.desired);
  return AnswerAfterRefusal(result.current, request);
}

absl::StatusOr<std::string> EtcdArbiter::Call(absl::string_view path, const std::string& json,
                                              const Deadline& deadline) {
  const size_t count = endpoints_.size();
  const size_t first = preferred_.load(std::memory_order_relaxed);
  std::vector<std::string> failures;
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  for (size_t i = 0; i < count; ++i) {
    const size_t index = (first + i) % count;
    const std::string url = absl::StrCat(scheme_, endpoints_[index], path);
    const absl::Duration share = deadline.Remaining() / static_cast<int64_t>(count - i);
    absl::StatusOr<HttpReply> reply = http_.PostJson(url, json, share);
    if (reply.ok() && reply->code == kHttpOk) {
      preferred_.store(index, std::memory_order_relaxed);
      return std::move(reply->body);
    }
    if (reply.ok()) {
      failures.push_back(
          absl::StrCat(url, " answered HTTP ", reply->code, ": ", EtcdErrorText(reply->body)));
    } else {
      failures.emplace_back(reply.status().message());
      code = reply.status().code();
    }
  }
  return absl::Status(
      code, absl::StrCat("no etcd member answered: ", absl::StrJoin(failures, "; "),
                         " (are a majority of the members up and reachable from this host?)"));
}

}  // namespace haven
