// SPDX-License-Identifier: Apache-2.0
//
// What a command says at its end, for people or as JSON (--json).
#ifndef HAVEN_ENGINE_CLI_ANSWER_H_
#define HAVEN_ENGINE_CLI_ANSWER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "engine/cli/options.h"

namespace haven {

// The switch of the commands that end with Answer().
OptionSpec JsonOption();

// Says how a command about `group` has ended and returns `exit_code`, for `return Answer(...)`.
// Text goes to stdout, or to stderr with the group's name if the code is not 0.
int Answer(const Options& options, const std::string& group, int exit_code,
           const std::string& message);

// The same as one JSON object in one line: group (left out if empty), exit_code, message. Bytes
// that are not UTF-8 are replaced.
std::string AnswerJson(absl::string_view group, int exit_code, absl::string_view message);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_ANSWER_H_
