// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/coded_epoch_check.h"

#include "absl/strings/str_cat.h"

namespace haven {
namespace {

std::vector<uint64_t> PageCounts(std::span<const GuestMemory* const> memories) {
  std::vector<uint64_t> counts;
  for (const GuestMemory* memory : memories) counts.push_back(memory->page_count());
  return counts;
}

}  // namespace

CodedEpochCheck::CodedEpochCheck(std::span<const GuestMemory* const> memories, uint64_t features)
    : memories_(memories.begin(), memories.end()),
      features_(features),
      pages_(PageCounts(memories)) {}

absl::Status CodedEpochCheck::CheckFeature(uint64_t feature, const char* what) const {
  if ((features_ & feature) != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("coded page at frame number ", page_.gfn, ": ", what, " was not agreed on"));
}

absl::Status CodedEpochCheck::SourceError() const {
  return absl::InvalidArgumentError(
      absl::StrCat("coded page at frame number ", page_.gfn,
                   ": refers to a page that the epoch writes, or that another one refers to is "
                   "written by it"));
}

}  // namespace haven
