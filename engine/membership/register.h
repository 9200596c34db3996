// SPDX-License-Identifier: Apache-2.0
//
// The arbiter's register: the one word that decides who may run a protected group (DESIGN.md
// section 7).
#ifndef HAVEN_ENGINE_MEMBERSHIP_REGISTER_H_
#define HAVEN_ENGINE_MEMBERSHIP_REGISTER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/replica/identity.h"

namespace haven {

// What the register allows.
enum class RegisterMode : uint8_t {
  kNone = 0,        // Not protected: the owner runs with its output open.
  kPromotable = 1,  // The backup of `session` may take over; the owner holds its output.
  kSolo = 2,        // The owner runs with its output open; nobody may take over.
};

// Identifies one change asked of the arbiter: random, never 0, never used for another change.
using RequestId = uint64_t;

// Value of the register of one group. Compared as a whole, stamp included, so an old value can
// never come back by accident: a request that was delayed for ever can not be granted twice.
struct Register {
  Term term = 0;
  std::string owner;  // Node id of the owner: 1 to 63 bytes of [A-Za-z0-9._-].
  RegisterMode mode = RegisterMode::kNone;
  SessionId session = kNoSession;  // The promotable session; kNoSession in the other modes.
  bool running = true;             // False between a promotion's grant and its guests' start.
  RequestId stamp = 0;             // The request that wrote this value.

  friend bool operator==(const Register&, const Register&) = default;
};

// The word for a mode in text and JSON: "none", "promotable", "solo".
absl::string_view RegisterModeName(RegisterMode mode);

// One line of text without a newline, the form in which `file`, `exec` and `etcd` keep the
// register:
//   haven1 term=7 owner=host-a.0123... mode=promotable session=0011... running=yes stamp=8899...
std::string FormatRegister(const Register& value);

// Reads FormatRegister's form. InvalidArgument names the field and the text that is wrong: unknown
// or missing or repeated fields, an owner of wrong length or characters, a session that does not
// fit the mode, numbers out of range, anything longer than 512 bytes.
absl::StatusOr<Register> ParseRegister(absl::string_view text);

// InvalidArgument unless `value` keeps the rules stated at the fields.
absl::Status ValidateRegister(const Register& value);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_REGISTER_H_
