// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_factory.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/membership/etcd_arbiter.h"
#include "engine/membership/exec_arbiter.h"
#include "engine/membership/file_arbiter.h"
#include "engine/membership/manual_arbiter.h"

namespace haven {
namespace {

constexpr size_t kEndpointLimit = 16;

absl::Status SpecError(absl::string_view spec, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("arbiter '", absl::CHexEscape(spec), "': ", what,
                                                 "; the forms are ", kArbiterSpecForms));
}

// Absolute, because the two hosts, and a restarted daemon, have other working directories.
absl::StatusOr<std::string> TakePath(absl::string_view spec, absl::string_view path) {
  if (!absl::StartsWith(path, "/") || absl::StrContains(path, absl::string_view("\0", 1))) {
    return SpecError(spec, absl::StrCat("'", absl::CHexEscape(path), "' is not an absolute path"));
  }
  return std::string(path);
}

bool IsHostByte(char c, bool in_brackets) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ||
         (in_brackets && (c == ':' || c == '%'));
}

absl::Status ValidateEndpoint(absl::string_view spec, absl::string_view endpoint) {
  const auto error = [&](absl::string_view what) {
    return SpecError(spec, absl::StrCat("endpoint '", absl::CHexEscape(endpoint), "' ", what));
  };
  const size_t colon = endpoint.rfind(':');
  if (colon == absl::string_view::npos) return error("is not HOST:PORT");
  absl::string_view host = endpoint.substr(0, colon);
  const absl::string_view port = endpoint.substr(colon + 1);
  const bool in_brackets = absl::StartsWith(host, "[") && absl::EndsWith(host, "]");
  if (in_brackets) host = host.substr(1, host.size() - 2);
  if (host.empty()) return error("has no host");
  for (const char c : host) {
    if (!IsHostByte(c, in_brackets)) {
      return error("has a host with a wrong character (IPv6 addresses stand in [])");
    }
  }
  uint32_t number = 0;
  if (!absl::SimpleAtoi(port, &number) || absl::StrCat(number) != port || number == 0 ||
      number > UINT16_MAX) {
    return error("has no port from 1 to 65535");
  }
  return absl::OkStatus();
}

absl::Status TakeEtcdOption(absl::string_view spec, absl::string_view item, EtcdOptions& options) {
  const size_t equals = item.find('=');
  const absl::string_view name = item.substr(0, equals);
  std::string* const field = name == "ca"     ? &options.tls.ca
                             : name == "cert" ? &options.tls.cert
                             : name == "key"  ? &options.tls.key
                                              : nullptr;
  if (field == nullptr) {
    return SpecError(spec, absl::StrCat("unknown option '", absl::CHexEscape(name), "'"));
  }
  if (!field->empty()) return SpecError(spec, absl::StrCat("option ", name, " is repeated"));
  HAVEN_ASSIGN_OR_RETURN(*field, TakePath(spec, item.substr(equals + 1)));
  return absl::OkStatus();
}

absl::StatusOr<EtcdOptions> ParseEtcd(absl::string_view spec, absl::string_view rest) {
  EtcdOptions options;
  for (const absl::string_view item : absl::StrSplit(rest, ',')) {
    if (absl::StrContains(item, '=')) {
      HAVEN_RETURN_IF_ERROR(TakeEtcdOption(spec, item, options));
      continue;
    }
    HAVEN_RETURN_IF_ERROR(ValidateEndpoint(spec, item));
    options.endpoints.emplace_back(item);
  }
  if (options.endpoints.empty()) return SpecError(spec, "no endpoint is named");
  if (options.endpoints.size() > kEndpointLimit) {
    return SpecError(spec, absl::StrCat("more than ", kEndpointLimit, " endpoints"));
  }
  if (options.tls.cert.empty() != options.tls.key.empty()) {
    return SpecError(spec, "cert and key go together");
  }
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Arbiter>> MakeArbiter(absl::string_view spec) {
  const size_t colon = spec.find(':');
  const absl::string_view kind = spec.substr(0, colon);
  const absl::string_view rest =
      colon == absl::string_view::npos ? absl::string_view() : spec.substr(colon + 1);
  if (kind == "etcd") {
    HAVEN_ASSIGN_OR_RETURN(EtcdOptions options, ParseEtcd(spec, rest));
    return std::make_unique<EtcdArbiter>(std::move(options));
  }
  if (kind != "exec" && kind != "file" && kind != "manual") {
    return SpecError(spec, absl::StrCat("unknown kind '", absl::CHexEscape(kind), "'"));
  }
  HAVEN_ASSIGN_OR_RETURN(std::string path, TakePath(spec, rest));
  if (kind == "exec") return std::make_unique<ExecArbiter>(std::move(path));
  if (kind == "file") return std::make_unique<FileArbiter>(std::move(path));
  return std::make_unique<ManualArbiter>(std::move(path));
}

}  // namespace haven
