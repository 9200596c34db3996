// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_json.h"

#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "engine/control/status_fields.h"
#include "nlohmann/json.hpp"

namespace haven {

namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string IdText(uint64_t id) { return absl::StrFormat("%016x", id); }

class Writer {
 public:
  template <typename Value>
  void Field(const char* name, const Value& value) {
    json_[name] = value;
  }
  void Id(const char* name, uint64_t value) { json_[name] = IdText(value); }
  template <typename Value, typename Function>
  void Object(const char* name, const Value& value, Function&& function) {
    Writer inner;
    function(inner, value);
    json_[name] = std::move(inner.json_);
  }

  const Json& json() const { return json_; }

 private:
  Json json_ = Json::object();
};

// Reads until the first error, which it keeps.
class Reader {
 public:
  Reader(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  template <std::integral Value>
  void Field(const char* name, Value& value) {
    const Json* found = Find(name);
    if (found == nullptr) return;
    if constexpr (std::same_as<Value, bool>) {
      if (!found->is_boolean()) return Fail(name, "is not true or false");
      value = found->get<bool>();
    } else if constexpr (std::unsigned_integral<Value>) {
      if (!found->is_number_unsigned()) return Fail(name, "is not a number from 0 on");
      const auto number = found->get<uint64_t>();
      if (number > std::numeric_limits<Value>::max()) return Fail(name, "is too large");
      value = static_cast<Value>(number);
    } else {
      static_assert(std::same_as<Value, int64_t>);
      const bool fits = found->is_number_integer() &&
                        (!found->is_number_unsigned() ||
                         found->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
      if (!fits) return Fail(name, "is not a number of 64 bits");
      value = found->get<int64_t>();
    }
  }
  void Field(const char* name, std::string& value) {
    const Json* found = Find(name);
    if (found == nullptr) return;
    if (!found->is_string()) return Fail(name, "is not text");
    value = found->get<std::string>();
  }
  void Field(const char* name, std::vector<std::string>& value) {
    const Json* found = Find(name);
    if (found == nullptr) return;
    if (!found->is_array()) return Fail(name, "is not a list");
    for (const Json& element : *found) {
      if (!element.is_string()) return Fail(name, "is not a list of text");
      value.push_back(element.get<std::string>());
    }
  }
  void Id(const char* name, uint64_t& value) {
    std::string text;
    Field(name, text);
    if (!status_.ok()) return;
    if (text.size() != 16 || !absl::SimpleHexAtoi(text, &value)) {
      Fail(name, "is not 16 hexadecimal digits");
    }
  }
  template <typename Value, typename Function>
  void Object(const char* name, Value& value, Function&& function) {
    const Json* found = Find(name);
    if (found == nullptr) return;
    if (!found->is_object()) return Fail(name, "is not an object");
    Reader inner(*found, absl::StrCat(path_, name, "."));
    function(inner, value);
    status_.Update(inner.status_);
  }

  const absl::Status& status() const { return status_; }

 private:
  const Json* Find(const char* name) {
    if (!status_.ok()) return nullptr;
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    Fail(name, "is missing");
    return nullptr;
  }
  void Fail(const char* name, const char* what) {
    status_.Update(absl::InvalidArgumentError(absl::StrCat("status: ", path_, name, " ", what)));
  }

  const Json& json_;
  const std::string path_;
  absl::Status status_;
};

}  // namespace

std::string StatusToJson(const StatusSnapshot& snapshot) {
  Writer writer;
  TransferStatus(writer, snapshot);
  return Dump(writer.json());
}

std::string StatusToJson(const StatusSnapshot& snapshot, const StatusReading& reading) {
  StatusSnapshot now = snapshot;
  for (int64_t* age_ns : {&now.arbiter.age_ns, &now.epoch.age_ns}) {
    if (*age_ns != kNoTime) *age_ns += reading.age_ns;
  }
  Writer writer;
  writer.Field("stale", reading.stale);
  writer.Field("status_age_ns", reading.age_ns);
  TransferStatus(writer, now);
  return Dump(writer.json());
}

absl::StatusOr<StatusSnapshot> StatusFromJson(absl::string_view text) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("status: this is no JSON object");
  Reader reader(json, "");
  StatusSnapshot snapshot;
  TransferStatus(reader, snapshot);
  if (!reader.status().ok()) return reader.status();
  return snapshot;
}

std::string EventToJson(const StatusEvent& event) {
  Json json = Json::object();
  json["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromUnixNanos(event.wall_ns),
                                  absl::UTCTimeZone());
  json["role"] = event.role;
  json["group"] = event.group;
  json["guests"] = event.guests;
  json["term"] = event.term;
  json["session"] = IdText(event.session);
  json["link"] = event.link;
  json["epoch"] = event.epoch;
  json["from"] = event.from;
  json["to"] = event.to;
  json["cause"] = event.cause;
  if (!event.detail.empty()) json["detail"] = event.detail;
  if (event.suppressed > 0) json["suppressed"] = event.suppressed;
  return Dump(json);
}

}  // namespace haven
