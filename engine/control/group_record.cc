// SPDX-License-Identifier: Apache-2.0
#include "engine/control/group_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"
#include "engine/codec/codec_mode.h"
#include "engine/membership/arbiter_rules.h"

namespace haven {

namespace {

using nlohmann::json;

constexpr size_t kMaxRecordBytes = 64 << 10;
constexpr size_t kMaxGuests = 16;
constexpr int kVersion = 1;
constexpr int64_t kMinHeartbeatUs = 1000;
constexpr int64_t kMaxHeartbeatUs = 1'000'000;
constexpr char kNameRule[] =
    "use 1 to 63 letters, digits, dots, dashes and underscores, the first one a letter or a digit";

const char* PhaseText(GroupPhase phase) {
  switch (phase) {
    case GroupPhase::kNew:
      return "new";
    case GroupPhase::kProtecting:
      return "protecting";
    case GroupPhase::kDeposed:
      return "deposed";
    case GroupPhase::kEnding:
      return "ending";
  }
  return "?";
}

absl::Status Wrong(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("group record: field \"", field, "\" ", why));
}

template <typename T>
absl::Status Take(json& object, const char* field, T* out) {
  const auto found = object.find(field);
  if (found == object.end()) return Wrong(field, "is missing");
  const bool fits = std::is_same_v<T, std::string>                ? found->is_string()
                    : std::is_same_v<T, std::vector<std::string>> ? found->is_array()
                    : std::is_same_v<T, bool>                     ? found->is_boolean()
                    : std::is_signed_v<T>                         ? found->is_number_integer()
                                                                  : found->is_number_unsigned();
  if (!fits) return Wrong(field, "has a value of the wrong type");
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    for (const json& entry : *found) {
      if (!entry.is_string()) return Wrong(field, "has an entry that is not a string");
    }
  }
  if constexpr (std::is_same_v<T, uint32_t>) {
    if (found->get<uint64_t>() > std::numeric_limits<T>::max()) {
      return Wrong(field, "has a value that is too large");
    }
  }
  *out = found->get<T>();
  object.erase(found);
  return absl::OkStatus();
}

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

// A time in microseconds, which is used in nanoseconds.
absl::Status TakeTime(json& object, const char* field, int64_t* out) {
  HAVEN_RETURN_IF_ERROR(Take(object, field, out));
  if (*out > 0 && *out <= std::numeric_limits<int64_t>::max() / 1000) return absl::OkStatus();
  return Wrong(field, "has a value that is no time");
}

absl::Status TakeCodec(json& object, GroupRecord* record) {
  HAVEN_RETURN_IF_ERROR(Take(object, "codec", &record->codec));
  HAVEN_RETURN_IF_ERROR(Take(object, "codec_cache_bytes", &record->codec_cache_bytes));
  HAVEN_RETURN_IF_ERROR(Take(object, "codec_block_bytes", &record->codec_block_bytes));
  HAVEN_RETURN_IF_ERROR(Take(object, "codec_hashes", &record->codec_hashes));
  HAVEN_RETURN_IF_ERROR(Take(object, "codec_verify", &record->codec_verify));
  if (!ParseCodecMode(record->codec).ok()) return Wrong("codec", "is not a mode of the codec");
  const uint32_t block = record->codec_block_bytes;
  if (block != 64 && block != 128 && block != 256) {
    return Wrong("codec_block_bytes", "is not 64, 128 or 256");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckName(absl::string_view what, absl::string_view name) {
  const absl::Status valid = ValidateGroupName(name);
  if (valid.ok()) return valid;
  return absl::InvalidArgumentError(
      absl::StrCat(what, " \"", absl::CHexEscape(name), "\": ", kNameRule));
}

std::string FormatGroupRecord(const GroupRecord& record) {
  const json object = {{"version", kVersion},
                       {"group", record.group},
                       {"owner", record.owner},
                       {"phase", PhaseText(record.phase)},
                       {"guests", record.guests},
                       {"backup_address", record.backup_address},
                       {"return_address", record.return_address},
                       {"arbiter", record.arbiter},
                       {"psk_file", record.psk_file},
                       {"ca_file", record.ca_file},
                       {"certificate_file", record.certificate_file},
                       {"key_file", record.key_file},
                       {"insecure", record.insecure},
                       {"interval_us", record.interval_us},
                       {"detect_us", record.detect_us},
                       {"rearm_us", record.rearm_us},
                       {"pause_budget_us", record.pause_budget_us},
                       {"arbiter_timeout_us", record.arbiter_timeout_us},
                       {"journal_bytes", record.journal_bytes},
                       {"copy_threads", record.copy_threads},
                       {"unsafe_disk", record.unsafe_disk},
                       {"codec", record.codec},
                       {"codec_cache_bytes", record.codec_cache_bytes},
                       {"codec_block_bytes", record.codec_block_bytes},
                       {"codec_hashes", record.codec_hashes},
                       {"codec_verify", record.codec_verify},
                       {"heartbeat_us", record.heartbeat_us},
                       {"seal", record.seal}};
  // CheckGroupRecord() refuses a record with bytes that this has replaced.
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<GroupRecord> ParseGroupRecord(absl::string_view text) {
  json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object())
    return absl::InvalidArgumentError("group record: this is no JSON object");
  GroupRecord record;
  int64_t version = 0;
  std::string phase;
  HAVEN_RETURN_IF_ERROR(Take(object, "version", &version));
  if (version != kVersion) return Wrong("version", "is not one that this program knows");
  HAVEN_RETURN_IF_ERROR(Take(object, "group", &record.group));
  HAVEN_RETURN_IF_ERROR(Take(object, "owner", &record.owner));
  HAVEN_RETURN_IF_ERROR(Take(object, "phase", &phase));
  HAVEN_RETURN_IF_ERROR(Take(object, "guests", &record.guests));
  HAVEN_RETURN_IF_ERROR(Take(object, "backup_address", &record.backup_address));
  HAVEN_RETURN_IF_ERROR(Take(object, "return_address", &record.return_address));
  HAVEN_RETURN_IF_ERROR(Take(object, "arbiter", &record.arbiter));
  HAVEN_RETURN_IF_ERROR(Take(object, "psk_file", &record.psk_file));
  HAVEN_RETURN_IF_ERROR(Take(object, "ca_file", &record.ca_file));
  HAVEN_RETURN_IF_ERROR(Take(object, "certificate_file", &record.certificate_file));
  HAVEN_RETURN_IF_ERROR(Take(object, "key_file", &record.key_file));
  HAVEN_RETURN_IF_ERROR(Take(object, "insecure", &record.insecure));
  HAVEN_RETURN_IF_ERROR(TakeTime(object, "interval_us", &record.interval_us));
  HAVEN_RETURN_IF_ERROR(TakeTime(object, "detect_us", &record.detect_us));
  HAVEN_RETURN_IF_ERROR(TakeTime(object, "rearm_us", &record.rearm_us));
  HAVEN_RETURN_IF_ERROR(TakeTime(object, "pause_budget_us", &record.pause_budget_us));
  HAVEN_RETURN_IF_ERROR(TakeTime(object, "arbiter_timeout_us", &record.arbiter_timeout_us));
  HAVEN_RETURN_IF_ERROR(Take(object, "journal_bytes", &record.journal_bytes));
  HAVEN_RETURN_IF_ERROR(Take(object, "copy_threads", &record.copy_threads));
  HAVEN_RETURN_IF_ERROR(Take(object, "unsafe_disk", &record.unsafe_disk));
  HAVEN_RETURN_IF_ERROR(TakeCodec(object, &record));
  HAVEN_RETURN_IF_ERROR(Take(object, "heartbeat_us", &record.heartbeat_us));
  if (record.heartbeat_us != 0 &&
      (record.heartbeat_us < kMinHeartbeatUs || record.heartbeat_us > kMaxHeartbeatUs)) {
    return Wrong("heartbeat_us", "is neither 0 nor a time from 1 ms to 1 s");
  }
  HAVEN_RETURN_IF_ERROR(Take(object, "seal", &record.seal));
  if (record.seal && record.psk_file.empty() && record.certificate_file.empty()) {
    return Wrong("seal", "needs a pre-shared key or certificates for the control channel");
  }
  if (!object.empty()) return Wrong(object.begin().key(), "is not known");
  HAVEN_RETURN_IF_ERROR(CheckName("group record: group", record.group));
  HAVEN_RETURN_IF_ERROR(CheckName("group record: owner", record.owner));
  if (record.guests.empty() || record.guests.size() > kMaxGuests) {
    return Wrong("guests", "has another number than 1 to 16 of them");
  }
  if (record.journal_bytes == 0) return Wrong("journal_bytes", "has the value 0");
  for (const GroupPhase known :
       {GroupPhase::kNew, GroupPhase::kProtecting, GroupPhase::kDeposed, GroupPhase::kEnding}) {
    if (phase != PhaseText(known)) continue;
    record.phase = known;
    return record;
  }
  return Wrong("phase", absl::StrCat("has the unknown value \"", phase, "\""));
}

absl::Status CheckGroupRecord(const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord read, ParseGroupRecord(FormatGroupRecord(record)));
  if (read == record) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("group ", record.group, ": an address or a name in it is not UTF-8"));
}

std::string GroupDirectory::RecordPath(absl::string_view group) const {
  return absl::StrCat(path_, "/", group, ".group");
}
std::string GroupDirectory::StatusPath(absl::string_view group) const {
  return absl::StrCat(path_, "/", group, ".status");
}
std::string GroupDirectory::EventsPath(absl::string_view group) const {
  return absl::StrCat(path_, "/", group, ".events");
}
std::string GroupDirectory::CommandPath(absl::string_view group) const {
  return absl::StrCat(path_, "/", group, ".command");
}

absl::Status GroupDirectory::Ensure() const {
  if (mkdir(path_.c_str(), 0700) == 0) return absl::OkStatus();
  if (errno != EEXIST) return SystemError("can not make the directory", path_);
  struct stat info = {};
  if (stat(path_.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " is no directory: choose another --directory"));
}

absl::StatusOr<GroupRecord> GroupDirectory::Load(absl::string_view group) const {
  HAVEN_ASSIGN_OR_RETURN(const std::string text,
                         ReadBoundedFile(RecordPath(group), kMaxRecordBytes));
  absl::StatusOr<GroupRecord> record = ParseGroupRecord(text);
  if (!record.ok()) {
    return absl::DataLossError(absl::StrCat(RecordPath(group), ": ", record.status().message()));
  }
  if (record->group != group) {
    return absl::DataLossError(absl::StrCat(RecordPath(group), ": this is the record of group ",
                                            record->group, ", not of ", group));
  }
  return record;
}

absl::Status GroupDirectory::Save(const GroupRecord& record) const {
  HAVEN_RETURN_IF_ERROR(CheckGroupRecord(record));
  return WriteFileAtomically(RecordPath(record.group), FormatGroupRecord(record));
}

absl::Status GroupDirectory::Remove(absl::string_view group) const {
  RemoveStatus(group);
  return RemoveFileDurably(RecordPath(group));
}

void GroupDirectory::RemoveStatus(absl::string_view group) const {
  unlink(StatusPath(group).c_str());
}

bool GroupDirectory::Exists(absl::string_view group) const {
  return access(RecordPath(group).c_str(), F_OK) == 0;
}

absl::StatusOr<std::vector<std::string>> GroupDirectory::Groups() const {
  DIR* directory = opendir(path_.c_str());
  if (directory == nullptr) return SystemError("can not list", path_);
  std::set<std::string> groups;
  while (const dirent* entry = readdir(directory)) {
    const absl::string_view name = entry->d_name;
    for (const absl::string_view ending : {".group", ".status"}) {
      if (!absl::EndsWith(name, ending)) continue;
      const absl::string_view group = name.substr(0, name.size() - ending.size());
      if (CheckName("group", group).ok()) groups.insert(std::string(group));
    }
  }
  closedir(directory);
  return std::vector<std::string>(groups.begin(), groups.end());
}

absl::StatusOr<UniqueFd> GroupDirectory::Lock(absl::string_view group) const {
  const std::string path = absl::StrCat(path_, "/", group, ".lock");
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return SystemError("can not open the lock", path);
  char holder[32] = {};
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("can not take the lock", path);
    const ssize_t size = pread(fd.get(), holder, sizeof(holder) - 1, 0);
    return absl::FailedPreconditionError(
        absl::StrCat("group \"", group, "\" is driven by the process with pid ",
                     absl::string_view(holder, size > 0 ? static_cast<size_t>(size) : 0),
                     " already; see `haven-engine status`"));
  }
  const std::string pid = absl::StrCat(getpid());
  if (ftruncate(fd.get(), 0) != 0 ||
      pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return SystemError("can not write the lock", path);
  }
  return fd;
}

}  // namespace haven
