// SPDX-License-Identifier: Apache-2.0
#include "transport/memory_budget.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr size_t kMaxFileBytes = 64 << 10;

// File names of one version of the memory controller.
struct Controller {
  absl::string_view mount;  // Below the root of the control groups.
  absl::string_view limit;
  absl::string_view usage;
  absl::string_view cache_prefix;  // Of the fields of memory.stat that include the groups below.
};
constexpr Controller kVersion2 = {"", "memory.max", "memory.current", ""};
constexpr Controller kVersion1 = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_"};

std::optional<uint64_t> ReadNumber(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadBoundedFile(path, kMaxFileBytes);
  uint64_t number = 0;
  if (!text.ok() || !absl::SimpleAtoi(*text, &number)) return std::nullopt;
  return number;
}

// The number behind `name` in a file of lines like "name: 17 kB" or "name 17".
std::optional<uint64_t> FindField(absl::string_view text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    uint64_t number = 0;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &number)) return number;
  }
  return std::nullopt;
}

// Page cache of files in this group and below. It can be dropped; that of tmpfs and memfds can not
// and is kept by the kernel on the anonymous lists, so it is not part of these fields.
uint64_t DroppableCacheBytes(const std::string& group, const Controller& controller) {
  const absl::StatusOr<std::string> stat =
      ReadBoundedFile(absl::StrCat(group, "/memory.stat"), kMaxFileBytes);
  if (!stat.ok()) return 0;
  uint64_t bytes = 0;
  for (const absl::string_view list : {"inactive_file", "active_file"}) {
    bytes += FindField(*stat, absl::StrCat(controller.cache_prefix, list)).value_or(0);
  }
  return bytes;
}

// What this one group leaves, or nullopt if it has no limit or does not show it.
std::optional<uint64_t> GroupLeavesBytes(const std::string& group, const Controller& controller) {
  const std::optional<uint64_t> limit = ReadNumber(absl::StrCat(group, "/", controller.limit));
  const std::optional<uint64_t> usage = ReadNumber(absl::StrCat(group, "/", controller.usage));
  if (!limit.has_value() || !usage.has_value()) return std::nullopt;
  const uint64_t used = *usage - std::min(*usage, DroppableCacheBytes(group, controller));
  return *limit - std::min(*limit, used);
}

// The least that any group from `path` up to the root leaves.
uint64_t LeastAlong(absl::string_view path, const std::string& root, const Controller& controller) {
  uint64_t least = UINT64_MAX;
  for (;;) {
    path = absl::StripSuffix(path, "/");
    const std::string group = absl::StrCat(root, controller.mount, path);
    least = std::min(least, GroupLeavesBytes(group, controller).value_or(UINT64_MAX));
    if (path.empty()) return least;
    path = path.substr(0, path.rfind('/'));
  }
}

// The lines of /proc/self/cgroup read "hierarchy:controllers:path"; version 2 is "0::path".
uint64_t ControlGroupsLeaveBytes(const MemoryBudgetRoots& roots) {
  const absl::StatusOr<std::string> groups =
      ReadBoundedFile(absl::StrCat(roots.proc, "/self/cgroup"), kMaxFileBytes);
  uint64_t least = UINT64_MAX;
  if (!groups.ok()) return least;
  for (absl::string_view line : absl::StrSplit(*groups, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3 || fields[2].empty() || fields[2][0] != '/') continue;
    if (fields[0] == "0" && fields[1].empty()) {
      least = std::min(least, LeastAlong(fields[2], roots.cgroup, kVersion2));
    }
    for (absl::string_view name : absl::StrSplit(fields[1], ',')) {
      if (name == "memory") least = std::min(least, LeastAlong(fields[2], roots.cgroup, kVersion1));
    }
  }
  return least;
}

}  // namespace

absl::StatusOr<uint64_t> AvailableMemoryBytes(const MemoryBudgetRoots& roots) {
  HAVEN_ASSIGN_OR_RETURN(const std::string meminfo,
                         ReadBoundedFile(absl::StrCat(roots.proc, "/meminfo"), kMaxFileBytes));
  const std::optional<uint64_t> available_kib = FindField(meminfo, "MemAvailable");
  if (!available_kib.has_value() || *available_kib > UINT64_MAX / 1024) {
    return absl::FailedPreconditionError(
        absl::StrCat(roots.proc, "/meminfo has no sound line MemAvailable"));
  }
  return std::min(*available_kib * 1024, ControlGroupsLeaveBytes(roots));
}

absl::Status CheckMemoryFor(uint64_t bytes, absl::string_view what, const MemoryBudgetRoots& roots,
                            absl::string_view remedy) {
  HAVEN_ASSIGN_OR_RETURN(const uint64_t available, AvailableMemoryBytes(roots));
  if (available >= kMemoryReserveBytes && bytes <= available - kMemoryReserveBytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(what, " needs ", bytes, " bytes of memory, ", available,
                   " are available (of which ", kMemoryReserveBytes,
                   " stay free); give this host or its control group more memory, or ", remedy));
}

}  // namespace haven
