// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/replica_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace haven {
namespace {

// One word into `options`; false: it is none.
bool Take(absl::string_view word, XenReplicaOptions* options) {
  std::map<std::string, std::string>* map = nullptr;
  if (absl::ConsumePrefix(&word, "bridge:")) map = &options->bridges;
  if (map == nullptr && absl::ConsumePrefix(&word, "disk:")) map = &options->disks;
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(word, absl::MaxSplits('=', 1));
  if (halves.first.empty() || halves.second.empty()) return false;
  if (map != nullptr) return map->emplace(halves.first, halves.second).second;
  if (halves.first != "name" || !options->name.empty()) return false;
  options->name = std::string(halves.second);
  return true;
}

}  // namespace

absl::StatusOr<XenReplicaOptions> ParseXenReplicaOptions(absl::string_view words) {
  XenReplicaOptions options;
  if (words.empty()) return options;
  for (const absl::string_view word : absl::StrSplit(words, ',')) {
    if (Take(word, &options)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("\"", word,
                     "\" says nothing about copies of Xen guests, or once more: must be name=NAME, "
                     "bridge:THERE=HERE or disk:THERE=HERE"));
  }
  return options;
}

}  // namespace haven
