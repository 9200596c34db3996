// SPDX-License-Identifier: Apache-2.0
//
// What only an operator's word changes in a group's register.
#ifndef HAVEN_ENGINE_CLI_REGISTER_CHANGES_H_
#define HAVEN_ENGINE_CLI_REGISTER_CHANGES_H_

#include <string>

#include "absl/status/status.h"
#include "engine/control/group_record.h"

namespace haven {

// The node of an owner's name in the register.
std::string NodeOf(const std::string& owner);

// Writes a register for a group that has lost its own (docs/arbiter.md, a damaged register): this
// copy owns it, alone, in a term above the last one that was seen here. FailedPrecondition: there
// is one, or the copy was not protected or was deposed; else the arbiter's cause.
absl::Status CreateRegister(const GroupDirectory& directory, const GroupRecord& record);

// Makes the register of a group whose protection has ended on another node this copy's. What still
// runs there loses the right to be protected, so its guests must have left. OK if there is no
// register, or it is this node's. FailedPrecondition: it says that a copy is kept there, or it has
// changed meanwhile; else the arbiter's cause.
absl::Status TakeOverRegister(const GroupRecord& record);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_REGISTER_CHANGES_H_
