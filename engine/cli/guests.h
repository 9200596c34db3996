// SPDX-License-Identifier: Apache-2.0
//
// The kinds of guest that this binary knows: "synthetic:NAME" and "xen:NAME". The guests of one
// group are of one kind, since one buffer holds the output of all of them.
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

// The guests that the words of `protect` mean, "KIND:NAME" each. Starts nothing. InvalidArgument: a
// kind that is not known, more than one kind, or a bad specification. NotFound, Unavailable: of a
// domain that is named by its number.
absl::StatusOr<std::vector<std::string>> NameGuests(const std::vector<std::string>& words);

// How guests are to be protected, beyond what the engine is told.
struct GuestOptions {
  bool unsafe_disk = false;  // XenRefusalOptions.
};

// Starts those synthetic guests that do not exist yet, and appends their names to `started`, also
// when a later one fails. Guests on Xen must exist, and be such that they can be protected:
// FailedPrecondition names the reasons. Errors as above, or of StartSyntheticGuest.
absl::Status EnsureGuests(const GroupDirectory& directory, const std::vector<std::string>& words,
                          const GuestOptions& options, std::vector<std::string>* started);

// Whether there is a guest of that name, "KIND:NAME", here. Errors: it can not be told.
absl::StatusOr<bool> GuestExists(const GroupDirectory& directory, const std::string& guest);

// Shuts down a guest that EnsureGuests has started and nobody protects. Errors of
// EndSyntheticGuest.
absl::Status ShutDownGuest(const GroupDirectory& directory, const std::string& guest);

// What a process wants of its guests.
enum class GuestHold : uint8_t {
  kRun,        // To let them run on, or to destroy them.
  kReplicate,  // All that GuestSet offers.
};

// AttachGuests for the guests of this node.
absl::StatusOr<GuestSet> AttachNodeGuests(const GroupDirectory& directory,
                                          const GroupRecord& record, GuestHold hold);

// What is different for copies on this host, in the words of the operator.
struct ReplicaOverrides {
  std::string synthetic;  // OverrideSyntheticSpec.
  std::string xen;        // ParseXenReplicaOptions.
};

// Builds waiting copies. Before the first of a group outlives this process, `before_run` is called
// with the copies' names: what it returns not OK stops the promotion.
class NodeReplicaFactory final : public ReplicaFactory {
 public:
  using BeforeRun = std::function<absl::Status(const std::vector<std::string>& guests)>;

  NodeReplicaFactory(GroupDirectory directory, ReplicaOverrides overrides, BeforeRun before_run);
  ~NodeReplicaFactory() override;

  absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) override;

 private:
  struct Shared;
  const GroupDirectory directory_;
  const ReplicaOverrides overrides_;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_GUESTS_H_
