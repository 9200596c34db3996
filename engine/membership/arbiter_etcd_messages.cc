// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_etcd_messages.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

using Json = nlohmann::json;

std::string Base64(absl::string_view bytes) { return absl::Base64Escape(bytes); }

Json RangeOfKey(absl::string_view group) { return Json{{"key", Base64(EtcdKey(group))}}; }

std::string Beginning(absl::string_view text) {
  constexpr size_t kShownBytes = 200;
  return absl::CHexEscape(text.substr(0, kShownBytes));
}

absl::Status WrongResponse(absl::string_view what, absl::string_view body) {
  return absl::DataLossError(absl::StrCat("etcd's response ", what, ": '", Beginning(body), "'"));
}

// The member `name` of an object; nullptr when there is none, or `value` is no object.
const Json* Find(const Json& value, const char* name) {
  if (!value.is_object()) return nullptr;
  const auto found = value.find(name);
  return found == value.end() ? nullptr : &*found;
}

// Every response of the API has a header with the cluster's id. Without it this is something else,
// and a missing field must not be taken for one with its default value.
absl::StatusOr<Json> ParseResponse(absl::string_view body) {
  Json response = Json::parse(body.begin(), body.end(), nullptr, /*allow_exceptions=*/false);
  if (response.is_discarded()) return WrongResponse("is not JSON", body);
  const Json* const header = Find(response, "header");
  const Json* const cluster = header == nullptr ? nullptr : Find(*header, "cluster_id");
  if (cluster == nullptr || !cluster->is_string()) {
    return WrongResponse("has no header with a cluster_id", body);
  }
  return response;
}

absl::StatusOr<std::string> DecodeBase64(const Json& pair, const char* name,
                                         absl::string_view body) {
  const Json* const field = Find(pair, name);
  // An empty value is left out.
  if (field == nullptr) return std::string();
  std::string bytes;
  if (!field->is_string() || !absl::Base64Unescape(field->get_ref<const std::string&>(), &bytes)) {
    return WrongResponse(absl::StrCat("has a ", name, " that is not base64"), body);
  }
  return bytes;
}

// The register in the "kvs" of a range response.
absl::StatusOr<std::optional<Register>> DecodePairs(absl::string_view group, const Json& range,
                                                    absl::string_view body) {
  const Json* const pairs = Find(range, "kvs");
  if (pairs == nullptr) return std::optional<Register>();
  if (!pairs->is_array() || pairs->size() > 1) {
    return WrongResponse("does not have one key at most", body);
  }
  if (pairs->empty()) return std::optional<Register>();
  HAVEN_ASSIGN_OR_RETURN(const std::string key, DecodeBase64((*pairs)[0], "key", body));
  if (key != EtcdKey(group)) return WrongResponse("is about another key", body);
  HAVEN_ASSIGN_OR_RETURN(const std::string text, DecodeBase64((*pairs)[0], "value", body));
  absl::StatusOr<Register> value = ParseRegister(text);
  if (!value.ok()) {
    return absl::DataLossError(
        absl::StrCat("etcd's key ", key, " holds no register and will not be overwritten: ",
                     value.status().message(), "; see 'A damaged register' in docs/arbiter.md"));
  }
  return std::optional<Register>(*std::move(value));
}

}  // namespace

std::string EtcdKey(absl::string_view group) { return absl::StrCat("/haven/", group); }

std::string EncodeEtcdRange(absl::string_view group) { return RangeOfKey(group).dump(); }

std::string EncodeEtcdChange(absl::string_view group, const RegisterRequest& request) {
  const std::string key = Base64(EtcdKey(group));
  Json compare = {{"key", key}, {"result", "EQUAL"}};
  if (request.expected.has_value()) {
    compare["target"] = "VALUE";
    compare["value"] = Base64(FormatRegister(*request.expected));
  } else {
    compare["target"] = "VERSION";
    compare["version"] = "0";
  }
  const Json put = {{"key", key}, {"value", Base64(FormatRegister(request.desired))}};
  return Json{{"compare", Json::array({std::move(compare)})},
              {"success", Json::array({Json{{"request_put", put}}})},
              {"failure", Json::array({Json{{"request_range", RangeOfKey(group)}}})}}
      .dump();
}

absl::StatusOr<std::optional<Register>> DecodeEtcdRange(absl::string_view group,
                                                        absl::string_view body) {
  HAVEN_ASSIGN_OR_RETURN(const Json response, ParseResponse(body));
  return DecodePairs(group, response, body);
}

absl::StatusOr<EtcdChangeResult> DecodeEtcdChange(absl::string_view group, absl::string_view body) {
  HAVEN_ASSIGN_OR_RETURN(const Json response, ParseResponse(body));
  const Json* const succeeded = Find(response, "succeeded");
  if (succeeded != nullptr && !succeeded->is_boolean()) {
    return WrongResponse("has a 'succeeded' that is no boolean", body);
  }
  const bool put = succeeded != nullptr && succeeded->get<bool>();
  const Json* const responses = Find(response, "responses");
  if (responses == nullptr || !responses->is_array() || responses->size() != 1) {
    return WrongResponse("does not answer exactly one operation", body);
  }
  const Json* const operation = Find((*responses)[0], put ? "response_put" : "response_range");
  if (operation == nullptr || !operation->is_object()) {
    return WrongResponse("answers another operation than the one it carried out", body);
  }
  if (put) return EtcdChangeResult{true, std::nullopt};
  HAVEN_ASSIGN_OR_RETURN(std::optional<Register> current, DecodePairs(group, *operation, body));
  return EtcdChangeResult{false, std::move(current)};
}

std::string EtcdErrorText(absl::string_view body) {
  const Json error = Json::parse(body.begin(), body.end(), nullptr, /*allow_exceptions=*/false);
  for (const char* name : {"message", "error"}) {
    const Json* const text = Find(error, name);
    if (text != nullptr && text->is_string()) return Beginning(text->get_ref<const std::string&>());
  }
  return Beginning(body);
}

}  // namespace haven
