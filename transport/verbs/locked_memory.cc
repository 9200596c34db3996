// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/locked_memory.h"

#include <linux/capability.h>
#include <sys/resource.h>

#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/file_util.h"

namespace haven {
namespace {

constexpr size_t kMaxStatusBytes = 64 << 10;

// The first word behind "NAME:" in /proc/self/status.
std::optional<std::string> Field(absl::string_view status, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::ConsumePrefix(&line, name) || !absl::ConsumePrefix(&line, ":")) continue;
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (!words.empty()) return words[0];
  }
  return std::nullopt;
}

}  // namespace

LockedMemoryFacts ReadLockedMemoryFacts(const std::string& proc) {
  LockedMemoryFacts facts;
  rlimit limit = {};
  facts.limit_bytes = UINT64_MAX;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    facts.limit_bytes = limit.rlim_cur;
  }
  const absl::StatusOr<std::string> status =
      ReadBoundedFile(absl::StrCat(proc, "/self/status"), kMaxStatusBytes);
  if (!status.ok()) return facts;
  uint64_t pinned_kib = 0;
  if (absl::SimpleAtoi(Field(*status, "VmPin").value_or(""), &pinned_kib) &&
      pinned_kib <= UINT64_MAX / 1024) {
    facts.pinned_bytes = pinned_kib * 1024;
  }
  uint64_t capabilities = 0;
  if (absl::SimpleHexAtoi(Field(*status, "CapEff").value_or(""), &capabilities)) {
    facts.may_exceed = (capabilities >> CAP_IPC_LOCK & 1) != 0;
  }
  return facts;
}

absl::Status CheckLockedMemory(const LockedMemoryFacts& facts, uint64_t bytes,
                               absl::string_view what) {
  if (facts.may_exceed || facts.limit_bytes == UINT64_MAX) return absl::OkStatus();
  if (facts.pinned_bytes <= facts.limit_bytes && bytes <= facts.limit_bytes - facts.pinned_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      what, " pins ", bytes, " bytes of memory, and RLIMIT_MEMLOCK of this process is ",
      facts.limit_bytes, " bytes, of which ", facts.pinned_bytes,
      " are pinned already; raise it (LimitMEMLOCK=infinity in the unit, ulimit -l unlimited in a "
      "shell) or give the process CAP_IPC_LOCK"));
}

}  // namespace haven
