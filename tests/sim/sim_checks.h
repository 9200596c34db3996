// SPDX-License-Identifier: Apache-2.0
//
// What the outside world sees of a simulated group, and whether it may be so (DESIGN.md section 2).
// Keeps its own account; looks at no engine's state but the register itself and committed states.
#ifndef HAVEN_TESTS_SIM_SIM_CHECKS_H_
#define HAVEN_TESTS_SIM_SIM_CHECKS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/membership/register.h"

namespace haven {

// One of the copies of a group that ever existed; numbered in the order of their making.
using CopyId = uint32_t;

// Something that a guest sent: how far its own history had come by then.
struct SimPacket {
  CopyId copy = 0;
  uint32_t guest = 0;
  uint64_t step = 0;
};

// A guest's state record, as the engine carries it.
struct SimState {
  CopyId copy = 0;
  uint32_t guest = 0;
  uint64_t step = 0;
  uint64_t capture = 0;  // The same for all guests of one checkpoint.
};

class SimChecks {
 public:
  // The first violation, or empty.
  const std::string& violation() const { return violation_; }
  void Violate(const std::string& what) {
    if (violation_.empty()) violation_ = what;
  }

  // A copy that has no predecessor starts its life: the operator has booted its guests.
  void OnFirstCopy(CopyId copy, uint32_t guests);
  // A guest's memory at a checkpoint, seen while it stands still.
  void OnCapture(const SimState& state, uint64_t memory_hash);
  // A promoted copy is let run with these states and memories.
  void OnRun(CopyId copy, const std::vector<SimState>& states,
             const std::vector<uint64_t>& memory_hashes, const std::optional<Register>& truth,
             const std::string& owner);
  // A packet leaves. `owner`: the name under which its copy owns, or once owned, the group.
  // `committed`: the step that the promotable session's replica has committed for this guest, if
  // there is such a session.
  void OnReleased(const SimPacket& packet, const std::optional<Register>& truth,
                  const std::string& owner, std::optional<uint64_t> committed);
  // A copy is destroyed because another one owns the group. `successor`: that one is there, or was
  // until it had run, or its host lost power.
  void OnDeposedDestroyed(const std::optional<Register>& truth, const std::string& owner,
                          bool successor);
  // An engine says that its group is not protected any more.
  void OnProtectionEnded(const std::optional<Register>& truth, const std::string& owner);
  void OnBarrier(bool all_stopped);
  // An epoch is put on the wire.
  void OnEpoch(uint64_t session, uint32_t link, uint64_t epoch);
  // A checkpoint of a protected group carries so many pages; the guests have written so many since
  // the state that the backup has committed.
  void OnCheckpoint(uint64_t pages, uint64_t written);
  // A guard lets go of a copy, as of one that was never protected.
  void OnRefused(CopyId copy);

  uint64_t released() const { return released_; }
  uint64_t promotions() const { return promotions_; }

 private:
  struct Copy {
    std::vector<uint64_t> released;  // Largest step released, by guest.
    std::vector<uint64_t> cut;       // Largest step that its successor has; no limit before.
    std::optional<CopyId> parent;
  };
  struct LastEpoch {
    uint64_t epoch = 0;
    uint32_t link = 0;
  };

  std::map<CopyId, Copy> copies_;
  std::map<std::tuple<CopyId, uint32_t, uint64_t>, std::set<uint64_t>> captures_;
  std::map<uint64_t, LastEpoch> epochs_;  // By session.
  CopyId running_ = 0;                    // The newest that was let run.
  uint64_t released_ = 0;
  uint64_t promotions_ = 0;
  std::string violation_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_CHECKS_H_
