// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_
#define HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_

#include <cstdint>

#include "engine/base/growing_rest.h"

namespace haven {

// Decides when the logs of dirty pages are cleared, and which checkpoints leave them as they are
// (Domain::FetchDirty).
//
// After a log was cleared the guest faults on the first write to each page, and most of what it
// writes in one epoch it writes in the next as well. A log that is kept spares it these faults. The
// price are pages that are copied and compared although nobody has written them again. So it is
// kept until what was copied in vain since it was cleared costs as much as to clear it, which is
// never more than twice as dear as to know in advance (the rule of ski rental). The codec tells
// what had changed, but for pages that it has not seen before: so a log is not kept for ever, nor
// when it has grown a lot. Then it is cleared between two checkpoints, where the guest pays a page
// at a time, and not while it stops and goes on. Only where pages are coded: there a page without a
// change is not sent. Not thread-safe.
class LogKeeper {
 public:
  // Pages copied in vain that cost the guest as much as a fault: it stands still for the copy of
  // some 0.3 us, and faults for 2 us or more.
  static constexpr uint64_t kPagesOfAFault = 8;
  // A guest whom a kept log spares nothing gets it cleared each time for so many checkpoints, twice
  // as many after each further attempt in vain.
  static constexpr uint32_t kMostRest = 64;
  // Checkpoints that keep it without its being cleared.
  static constexpr uint32_t kMostInARow = 100;

  // The log is cleared at more than `most_pages`: a kept one counts from the beginning against the
  // mark at which an epoch is closed early.
  explicit LogKeeper(uint64_t most_pages) : most_pages_(most_pages) {}

  // Whether the next checkpoint begins by keeping the log.
  bool Keep() const { return worth_trying_ && rest_.over() && !Due(); }
  // Whether it may stay, with so many pages in it. If not, the checkpoint clears it after all.
  bool Fits(uint64_t pages) const { return pages <= most_pages_; }
  // Whether it has been kept for long enough and is worth being kept again: to be cleared before
  // the next checkpoint. One that is not worth it the checkpoint clears.
  bool ClearBetween() const { return Due() && Worthwhile(); }

  // A checkpoint has fetched `pages` from the logs and left them as they were.
  void OnKept(uint64_t pages);
  // A checkpoint clears the logs: Keep() or Fits() said no.
  void OnNotKept();
  // It was encoded; so many pages of it had changed. `coded`: by the codec.
  void OnEncoded(uint64_t changed_pages, uint64_t wire_bytes, bool coded);
  // The logs were cleared by something else than a checkpoint: the next one has what was in them,
  // too.
  void OnCleared();

 private:
  bool Due() const;
  // The row has spared more than it has cost.
  bool Worthwhile() const { return kPagesOfAFault * spared_ > in_vain_; }
  void BeginRow(uint32_t first);
  void EndRow(uint32_t first);

  uint64_t most_pages_;
  bool worth_trying_ = false;
  GrowingRest rest_{1, kMostRest - 1};
  // A row: the checkpoints that have kept the log since it was cleared.
  uint32_t in_a_row_ = 0;
  uint32_t first_ = 1;  // The first one whose pages are all of this row.
  // Of that one: what the guest dirties in one epoch.
  uint64_t first_pages_ = 0;
  uint64_t first_bytes_ = 0;
  uint64_t pages_ = 0;      // Of the last one.
  uint64_t new_pages_ = 0;  // Of those, such as the one before did not have.
  uint64_t in_vain_ = 0;    // Pages that had not changed, of all that came after the first.
  uint64_t spared_ = 0;     // Pages of theirs that had, and had been in the log before.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_LOG_KEEPER_H_
