// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/answer.h"

#include <cstdio>

#include "nlohmann/json.hpp"

namespace haven {

OptionSpec JsonOption() { return {"json", "", "", "the answer as one JSON object, errors too"}; }

int Answer(const Options& options, const std::string& group, int exit_code,
           const std::string& message) {
  if (options.Has("json")) {
    std::printf("%s\n", AnswerJson(group, exit_code, message).c_str());
  } else if (exit_code == 0) {
    std::printf("%s\n", message.c_str());
  } else {
    std::fprintf(stderr, "group %s: %s\n", group.c_str(), message.c_str());
  }
  return exit_code;
}

std::string AnswerJson(absl::string_view group, int exit_code, absl::string_view message) {
  using Json = nlohmann::ordered_json;
  Json json = Json::object();
  if (!group.empty()) json["group"] = std::string(group);
  json["exit_code"] = exit_code;
  json["message"] = std::string(message);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace haven
