// SPDX-License-Identifier: Apache-2.0
//
// The kinds of guest that this binary knows.
#ifndef HAVEN_ENGINE_CLI_GUESTS_H_
#define HAVEN_ENGINE_CLI_GUESTS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/control/group_record.h"
#include "engine/control/guest_set.h"
#include "engine/control/replica_factory.h"
#include "engine/synthetic/launcher.h"

namespace haven {

// Where synthetic guests of this node live, and how they are started.
SyntheticLaunch SyntheticLaunchIn(const GroupDirectory& directory);

// The guests that the words of `protect` mean, "synthetic:NAME" each. Starts nothing.
// InvalidArgument: a kind that is not known, or a bad specification.
absl::StatusOr<std::vector<std::string>> NameGuests(const std::vector<std::string>& words);

// Starts those of them that do not exist yet, and appends their names to `started`, also when a
// later one fails. Errors as above, or of StartSyntheticGuest.
absl::Status EnsureGuests(const GroupDirectory& directory, const std::vector<std::string>& words,
                          std::vector<std::string>* started);

// Whether there is a guest of that name, "synthetic:NAME", here. Errors: it can not be told.
absl::StatusOr<bool> GuestExists(const GroupDirectory& directory, const std::string& guest);

// Shuts down a guest that nobody protects. Errors of EndSyntheticGuest.
absl::Status ShutDownGuest(const GroupDirectory& directory, const std::string& guest);

// AttachGuests for the guests of this node.
absl::StatusOr<GuestSet> AttachNodeGuests(const GroupDirectory& directory,
                                          const GroupRecord& record);

// Builds waiting copies. Before the first of a group is prepared to run, `before_run` is called
// with the copies' names: what it returns not OK stops the promotion.
class NodeReplicaFactory final : public ReplicaFactory {
 public:
  using BeforeRun = std::function<absl::Status(const std::vector<std::string>& guests)>;

  // `overrides`: what is different for synthetic copies on this host (OverrideSyntheticSpec).
  NodeReplicaFactory(GroupDirectory directory, std::string overrides, BeforeRun before_run);
  ~NodeReplicaFactory() override;

  absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) override;

 private:
  struct Shared;
  const GroupDirectory directory_;
  const std::string overrides_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_GUESTS_H_
