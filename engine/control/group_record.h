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

namespace haven {

// Where a copy of the group that is on this host stands.
enum class GroupPhase : uint8_t {
  kNew = 0,         // To be protected; the register may not exist yet.
  kProtecting = 1,  // Its output may be held; only the register's word opens it.
  kDeposed = 2,     // Another copy owns the group; this one is to be destroyed once that one runs.
  kEnding = 3,      // The protection is to end, as asked: all that is left to do is to finish that.
};

// One small file per group, written before what it tells of is done: which guests belong to the
// copy on this host, the name under which it owns the register, and how it is protected. A file is
// there exactly while a copy is: the listener refuses a session for a group whose file exists.
struct GroupRecord {
  std::string group;  // As CheckName has it.
  std::string owner;  // Name of this copy in the register.
  GroupPhase phase = GroupPhase::kNew;
  std::vector<std::string> guests;  // "KIND:NAME", 1 .. 16, in the group's order.
  std::string backup_address;       // Where a backup is looked for.
  std::string return_address;       // Where this host listens as a backup; may be empty.
  std::string arbiter;              // As for MakeArbiter.
  // How backups prove who they are, as for MakeTransport: files, by absolute paths, or nothing.
  std::string psk_file;
  std::string ca_file;
  std::string certificate_file;
  std::string key_file;
  bool insecure = false;
  int64_t interval_us = 0;  // This and the other times: above 0.
  int64_t detect_us = 0;
  int64_t rearm_us = 0;
  int64_t pause_budget_us = 0;
  int64_t arbiter_timeout_us = 0;
  uint64_t journal_bytes = 0;  // Size of the largest epoch, in bytes of staging; above 0.
  uint32_t copy_threads = 0;
  bool unsafe_disk = false;         // Guests may write disks that are not part of an epoch.
  std::string codec = "off";        // As ParseCodecMode has it; "off": no memory is taken for it.
  uint64_t codec_cache_bytes = 0;   // Pages whose last version is kept.
  uint32_t codec_block_bytes = 64;  // 64, 128 or 256.
  bool codec_hashes = false;        // Of the blocks of the pages beyond the cache.
  bool codec_verify = false;        // Count what the hashes would miss.
  int64_t heartbeat_us = 0;  // Between one-sided heartbeats; 0: a tenth of the detection time.
  bool seal = false;         // The journal is sealed; no backup without is taken.

  friend bool operator==(const GroupRecord&, const GroupRecord&) = default;
};

std::string FormatGroupRecord(const GroupRecord& record);

// InvalidArgument unless the record could be saved, and be loaded again as it is.
absl::Status CheckGroupRecord(const GroupRecord& record);

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

  // Makes the directory (0700) if there is none. Errors of mkdir(2), with the path;
  // FailedPrecondition: it is a file.
  absl::Status Ensure() const;

  // NotFound: no copy here. DataLoss: the file is not sound, with its path and the field. Else the
  // errors of ReadBoundedFile.
  absl::StatusOr<GroupRecord> Load(absl::string_view group) const;
  // Durable when it returns. InvalidArgument: it breaks a rule above, or is not UTF-8, so that it
  // could not be loaded again; else the errors of WriteFileAtomically.
  absl::Status Save(const GroupRecord& record) const;
  // Of a copy that is not here any more, or not protected: its status goes first. The events stay.
  absl::Status Remove(absl::string_view group) const;
  // The status of a group that is not kept here any more.
  void RemoveStatus(absl::string_view group) const;
  bool Exists(absl::string_view group) const;
  // Groups that have a record or a status here. NotFound: there is no such directory.
  absl::StatusOr<std::vector<std::string>> Groups() const;

  // Held by whoever drives the group (its guard, or the session that has its replica) for as long
  // as the descriptor lives. FailedPrecondition names the pid of the holder; NotFound: there is no
  // such directory; else the errors of open(2), with the path.
  absl::StatusOr<UniqueFd> Lock(absl::string_view group) const;

 private:
  const std::string path_;
};

// InvalidArgument, beginning with `what`, unless the name fits for a group or a node everywhere: a
// file's name, the protocol, the register (ValidateGroupName, engine/membership/arbiter_rules.h).
absl::Status CheckName(absl::string_view what, absl::string_view name);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GROUP_RECORD_H_
