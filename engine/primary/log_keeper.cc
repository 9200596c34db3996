// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/log_keeper.h"

namespace haven {

namespace {

// Pages that come in addition to those of one epoch: a quarter, and a few for guests that write
// next to nothing.
constexpr uint64_t MostPages(uint64_t first) { return first + first / 4 + 16; }

// Where the guest does something else now, what is in the log says little of the next epoch.
constexpr uint64_t kSlackBytes = uint64_t{64} << 10;
constexpr bool SameWork(uint64_t first_bytes, uint64_t bytes) {
  return bytes <= 4 * first_bytes + kSlackBytes && first_bytes <= 4 * bytes + kSlackBytes;
}

// A row that is shorter has spared less than it has cost.
constexpr uint32_t kWorthwhile = 3;

}  // namespace

bool LogKeeper::Fits(uint64_t pages) const {
  if (pages > most_pages_) return false;
  return in_a_row_ == 0 || pages <= MostPages(first_pages_);
}

void LogKeeper::OnKept(uint64_t pages) {
  if (in_a_row_++ == 0) first_pages_ = pages;
}

void LogKeeper::OnNotKept() {
  if (in_a_row_ > 0 || Keep()) {
    EndRun();
  } else {
    rest_.Rests();
  }
}

void LogKeeper::EndRun() {
  if (in_a_row_ < kWorthwhile) {
    rest_.Begin();
  } else {
    rest_.End();
  }
  in_a_row_ = 0;
}

void LogKeeper::OnEncoded(uint64_t wire_bytes, bool coded) {
  if (in_a_row_ == 1) first_bytes_ = wire_bytes;
  worth_trying_ = coded && (in_a_row_ <= 1 || SameWork(first_bytes_, wire_bytes));
}

}  // namespace haven
