// SPDX-License-Identifier: Apache-2.0
//
// One kind of guest each: what guests.cc does for all of them. Names and specifications are without
// the kind in front.
#ifndef HAVEN_ENGINE_CLI_GUEST_KINDS_H_
#define HAVEN_ENGINE_CLI_GUEST_KINDS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cli/guests.h"

namespace haven {

inline constexpr char kSyntheticKind[] = "synthetic:";
inline constexpr char kXenKind[] = "xen:";

// A copy, and the name under which it will run here, without its kind.
struct BuiltReplica {
  std::unique_ptr<ReplicaDomain> replica;
  std::string name;
};

// `word` is all that `protect` was told: "synthetic:KEY=VALUE,..." or "synthetic".
absl::StatusOr<std::string> NameSyntheticGuest(const std::string& word);
absl::Status EnsureSyntheticGuest(const GroupDirectory& directory, const std::string& word,
                                  std::vector<std::string>* started);
absl::StatusOr<bool> SyntheticGuestExists(const GroupDirectory& directory, const std::string& name);
absl::StatusOr<GuestSet> AttachSyntheticGuests(const GroupDirectory& directory,
                                               const std::vector<std::string>& names);
absl::StatusOr<BuiltReplica> BuildSyntheticReplica(const GroupDirectory& directory,
                                                   const HelloDomain& domain,
                                                   const std::string& overrides);

// `word` is a running domain's name or number.
absl::StatusOr<std::string> NameXenGuest(const std::string& word);
absl::Status CheckXenGuestWord(const std::string& word, const GuestOptions& options);
absl::StatusOr<bool> XenGuestExists(const std::string& name);
absl::StatusOr<GuestSet> AttachXenGuests(const std::string& group,
                                         const std::vector<std::string>& names,
                                         const GuestOptions& options, GuestHold hold);
absl::StatusOr<BuiltReplica> BuildXenReplicaHere(const HelloDomain& domain,
                                                 const std::string& overrides);

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_GUEST_KINDS_H_
