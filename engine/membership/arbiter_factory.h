// SPDX-License-Identifier: Apache-2.0
//
// From what an operator writes to an arbiter.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_FACTORY_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_FACTORY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/membership/arbiter.h"

namespace haven {

// The forms of a specification, for --help.
inline constexpr absl::string_view kArbiterSpecForms =
    "etcd:HOST:PORT[,HOST:PORT...][,ca=FILE][,cert=FILE,key=FILE], exec:/PROGRAM, "
    "file:/DIRECTORY, manual:/DIRECTORY";

// Makes the arbiter that `spec` names. Nothing is opened or contacted: what is out of reach now
// shows in the answers. InvalidArgument says which part of `spec` is wrong and what belongs there.
absl::StatusOr<std::unique_ptr<Arbiter>> MakeArbiter(absl::string_view spec);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_FACTORY_H_
