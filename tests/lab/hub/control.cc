// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/control.h"

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace haven {
namespace {

using Json = nlohmann::json;

absl::Status WrongType(const std::string& name, const char* wanted) {
  return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not ", wanted));
}

absl::StatusOr<std::string> StringMember(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return WrongType(name, "there as a string");
  return found->get<std::string>();
}

absl::Status SetMember(const std::string& name, const Json& value, LinkRule& rule) {
  if (name == "cut") {
    if (!value.is_boolean()) return WrongType(name, "true or false");
    rule.cut = value.get<bool>();
    return absl::OkStatus();
  }
  for (const auto& [member, field] :
       {std::pair("loss", &rule.loss), std::pair("corrupt", &rule.corrupt),
        std::pair("duplicate", &rule.duplicate), std::pair("reorder", &rule.reorder)}) {
    if (name != member) continue;
    if (!value.is_number()) return WrongType(name, "a number");
    *field = value.get<double>();
    return absl::OkStatus();
  }
  for (const auto& [member, field] :
       {std::pair("reorder_us", &rule.reorder_us), std::pair("delay_us", &rule.delay_us),
        std::pair("jitter_us", &rule.jitter_us), std::pair("rate_kbps", &rule.rate_kbps),
        std::pair("queue_bytes", &rule.queue_bytes)}) {
    if (name != member) continue;
    if (!value.is_number_integer()) return WrongType(name, "a whole number");
    *field = value.get<int64_t>();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("a rule has no \"", name, "\""));
}

absl::StatusOr<Json> SetLink(const Json& command, Switch& network) {
  const absl::StatusOr<std::string> from = StringMember(command, "from");
  if (!from.ok()) return from.status();
  const absl::StatusOr<std::string> to = StringMember(command, "to");
  if (!to.ok()) return to.status();
  const auto members = command.find("rule");
  if (members == command.end() || !members->is_object()) return WrongType("rule", "an object");
  LinkRule rule;
  for (const auto& [name, value] : members->items()) {
    if (absl::Status status = SetMember(name, value, rule); !status.ok()) return status;
  }
  const absl::StatusOr<size_t> links = network.SetRule(*from, *to, rule);
  if (!links.ok()) return links.status();
  return Json{{"links", *links}};
}

Json StatsOf(const Switch& network) {
  Json links = Json::array();
  for (const Switch::PairStats& pair : network.Stats()) {
    const LinkCounters& counters = pair.counters;
    links.push_back({{"from", pair.from},
                     {"to", pair.to},
                     {"frames", counters.frames},
                     {"bytes", counters.bytes},
                     {"cut", counters.cut},
                     {"lost", counters.lost},
                     {"overflowed", counters.overflowed},
                     {"corrupted", counters.corrupted},
                     {"duplicated", counters.duplicated},
                     {"reordered", counters.reordered}});
  }
  return {{"links", links}, {"frames_over_limit", network.frames_over_limit()}};
}

Json SourcesOf(const Switch& network) {
  Json sources = Json::array();
  for (const Switch::SourceStats& source : network.Sources()) {
    sources.push_back({{"port", source.port},
                       {"address", source.address},
                       {"frames", source.frames},
                       {"reverse_arps", source.reverse_arps},
                       {"last_ns", source.last_ns}});
  }
  return {{"sources", sources}};
}

absl::StatusOr<Json> Carry(const std::string& line, Switch& network) {
  const Json command = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!command.is_object()) return absl::InvalidArgumentError("not an object in JSON");
  const absl::StatusOr<std::string> op = StringMember(command, "op");
  if (!op.ok()) return op.status();
  if (*op == "link") return SetLink(command, network);
  if (*op == "stats") return StatsOf(network);
  if (*op == "sources") return SourcesOf(network);
  if (*op == "clear") {
    network.ClearRules();
    return Json::object();
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no operation \"", *op, "\""));
}

}  // namespace

std::string HandleCommand(const std::string& line, Switch& network) {
  const absl::StatusOr<Json> answer = Carry(line, network);
  const Json said = answer.ok() ? *answer : Json{{"error", std::string(answer.status().message())}};
  // Names may hold anything; what is no UTF-8 is replaced, not thrown at.
  return said.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace haven
