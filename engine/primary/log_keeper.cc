// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/log_keeper.h"

#include <algorithm>

namespace haven {

namespace {

// Where the guest does something else now, what is in the log says little of the next epoch.
constexpr uint64_t kSlackBytes = uint64_t{64} << 10;
constexpr bool SameWork(uint64_t first_bytes, uint64_t bytes) {
  return bytes <= 4 * first_bytes + kSlackBytes && first_bytes <= 4 * bytes + kSlackBytes;
}

// Too few to say anything of a guest that writes next to nothing.
constexpr uint64_t kSlackPages = 16;
// More pages than this are not those of the same work.
constexpr uint64_t MostPages(uint64_t first) { return 4 * first + kSlackPages; }

}  // namespace

bool LogKeeper::Due() const {
  if (in_a_row_ <= first_) return false;
  if (in_vain_ >= kPagesOfAFault * (first_pages_ + 1)) return true;
  if (in_a_row_ >= kMostInARow || pages_ > MostPages(first_pages_)) return true;
  // To go on costs more than it spares.
  return in_vain_ > first_pages_ + kSlackPages && !Worthwhile();
}

void LogKeeper::OnKept(uint64_t pages) {
  ++in_a_row_;
  new_pages_ = pages - std::min(pages, pages_);
  pages_ = pages;
  if (in_a_row_ <= first_) first_pages_ = pages;
}

void LogKeeper::OnNotKept() {
  if (in_a_row_ > 0 || Keep()) {
    EndRow(1);
  } else {
    rest_.Rests();
    BeginRow(1);
  }
}

void LogKeeper::OnCleared() {
  if (ClearBetween()) {
    EndRow(2);
  } else {
    BeginRow(2);
  }
}

void LogKeeper::BeginRow(uint32_t first) {
  first_ = first;
  in_a_row_ = 0;
  in_vain_ = 0;
  spared_ = 0;
}

void LogKeeper::EndRow(uint32_t first) {
  if (Worthwhile()) {
    rest_.End();
  } else {
    rest_.Begin();
  }
  BeginRow(first);
}

void LogKeeper::OnEncoded(uint64_t changed_pages, uint64_t wire_bytes, bool coded) {
  worth_trying_ = coded;
  if (in_a_row_ <= first_) {
    first_bytes_ = wire_bytes;
    return;
  }
  const uint64_t changed = std::min(changed_pages, pages_);
  in_vain_ += pages_ - changed;
  spared_ += changed - std::min(changed, new_pages_);
  worth_trying_ = coded && SameWork(first_bytes_, wire_bytes);
}

}  // namespace haven
