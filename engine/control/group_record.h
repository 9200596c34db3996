// SPDX-License-Identifier: Apache-2.0
//
// A host's own memory of one protected group: what survives the death of every process.
#ifndef HAVEN_ENGINE_CONTROL_GROUP_RECORD_H_
#define HAVEN_ENGINE_CONTROL_GROUP_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "engine/replica/identity.h"

namespace haven {

// Where a copy of the group that is on this host stands.
enum class GroupPhase : uint8_t {
  kNew = 0,         // To be protected; the register may not exist yet.
  kProtecting = 1,  // Its output may be held; only the register's word opens it.
  kDeposed = 2,     // Another copy owns the group; this one is to be destroyed once that one runs.
};

// One small file per group, written before what it tells of is done: which guests belong to the
// copy on this host, the name under which it owns the register, and how it is protected. A file is
// there exactly while a copy is: the listener refuses a session for a group whose file exists.
struct GroupRecord {
  std::string group;  // 1 .. 63 bytes of [A-Za-z0-9._-].
  std::string owner;  // Name of this copy in the register.
  GroupPhase phase = GroupPhase::kNew;
  std::vector<std::string> guests;  // "KIND:NAME", 1 .. 16, in the group's order.
  std::string backup_address;       // Where a backup is looked for.
  std::string return_address;       // Where this host listens as a backup; may be empty.
  std::string arbiter;              // As for MakeArbiter.
  std::string session_address;      // Of the session there was last, if any; and its id:
  SessionId session = kNoSession;   //   the replica there may serve as a base.
  int64_t interval_us = 0;
  int64_t detect_us = 0;
  int64_t rearm_us = 0;
  int64_t pause_budget_us = 0;
  uint64_t journal_bytes = 0;  // Size of the largest epoch, in bytes of staging.
  uint32_t copy_threads = 0;

  friend bool operator==(const GroupRecord&, const GroupRecord&) = default;
};

std::string FormatGroupRecord(const GroupRecord& record);

// InvalidArgument names the field that is missing, unknown or of a wrong value.
absl::StatusOr<GroupRecord> ParseGroupRecord(absl::string_view json);

// The directory of a node's files. One per node; the node's processes share it.
class GroupDirectory {
 public:
  explicit GroupDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string RecordPath(absl::string_view group) const;
  std::string StatusPath(absl::string_view group) const;
  std::string EventsPath(absl::string_view group) const;
  std::string CommandPath(absl::string_view group) const;

  // Makes the directory (0700) if there is none. Errors of mkdir(2), with the path.
  absl::Status Ensure() const;

  // NotFound: no copy here. InvalidArgument, Unavailable: the file can not be read or is not sound.
  absl::StatusOr<GroupRecord> Load(absl::string_view group) const;
  // Durable when it returns.
  absl::Status Save(const GroupRecord& record) const;
  absl::Status Remove(absl::string_view group) const;
  bool Exists(absl::string_view group) const;
  // Groups that have a record or a status here.
  absl::StatusOr<std::vector<std::string>> Groups() const;

  // Held by whoever drives the group (its guard, or the session that has its replica) for as long
  // as the descriptor lives. FailedPrecondition names the pid of the holder.
  absl::StatusOr<UniqueFd> Lock(absl::string_view group) const;

 private:
  const std::string path_;
};

// 1 .. 63 bytes of [A-Za-z0-9._-], as everywhere in the protocol; InvalidArgument otherwise.
absl::Status CheckName(absl::string_view what, absl::string_view name);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GROUP_RECORD_H_
