// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_
#define HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_

#include <cstdint>

#include "engine/base/growing_rest.h"

namespace haven {

// Decides which checkpoints leave the logs of dirty pages as they are (Domain::FetchDirty).
//
// After a log was cleared the guest faults on the first write to each page, and most of what it
// writes in one epoch it writes in the next as well. A log that is kept spares it these faults. The
// price are pages that are copied and compared although nobody has written them again: so it is
// kept while hardly any come in addition, and for a bounded number of epochs, so that what was hot
// once is found out to be cold. Only where pages are coded: there a page without a change is not
// sent. Not thread-safe.
class LogKeeper {
 public:
  // Checkpoints in a row that keep the log: they spare all but a sixteenth of the faults.
  static constexpr uint32_t kMostInARow = 15;
  // A log that grows too fast is cleared each time for so many checkpoints, twice as many after
  // each further attempt in vain.
  static constexpr uint32_t kMostRest = 64;

  // The log is cleared at more than `most_pages`: a kept one counts from the beginning against the
  // mark at which an epoch is closed early.
  explicit LogKeeper(uint64_t most_pages) : most_pages_(most_pages) {}

  // Whether the next checkpoint begins by keeping the log.
  bool Keep() const { return worth_trying_ && rest_.over() && in_a_row_ < kMostInARow; }
  // Whether it may stay, with so many pages in it. If not, the checkpoint clears it after all.
  bool Fits(uint64_t pages) const;

  // A checkpoint has fetched `pages` from the logs and left them as they were.
  void OnKept(uint64_t pages);
  // A checkpoint clears the logs: Keep() or Fits() said no.
  void OnNotKept();
  // It was encoded; `coded`: by the codec.
  void OnEncoded(uint64_t wire_bytes, bool coded);
  // The logs were cleared by something else than a checkpoint.
  void OnCleared() { in_a_row_ = 0; }

 private:
  void EndRun();

  uint64_t most_pages_;
  bool worth_trying_ = false;
  uint32_t in_a_row_ = 0;  // Checkpoints that have kept the log since it was cleared.
  GrowingRest rest_{1, kMostRest - 1};
  // Of the first checkpoint of the row: what the guest dirties in one epoch.
  uint64_t first_pages_ = 0;
  uint64_t first_bytes_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_
