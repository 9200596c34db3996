// SPDX-License-Identifier: Apache-2.0
//
// What scenarios say to the hub: a line of JSON, answered by a line of JSON.
#ifndef HAVEN_TESTS_LAB_HUB_CONTROL_H_
#define HAVEN_TESTS_LAB_HUB_CONTROL_H_

#include <string>

#include "tests/lab/hub/switch.h"

namespace haven {

// Carries out one command and returns the answer, without the end of the line:
//   {"op": "link", "from": PATTERN, "to": PATTERN, "rule": {...}} -> {"links": how many}
//   {"op": "clear"}                                               -> {}
//   {"op": "stats"}                                               -> {"links": [...], ...}
// The rule has the members of LinkRule; what it leaves out is as on a perfect cable. A command that
// can not be carried out changes nothing and is answered by {"error": why}.
std::string HandleCommand(const std::string& line, Switch& network);

}  // namespace haven

#endif  // HAVEN_TESTS_LAB_HUB_CONTROL_H_
