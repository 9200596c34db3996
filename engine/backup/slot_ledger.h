// SPDX-License-Identifier: Apache-2.0
//
// Who owns which slot of the journal: the backup's private account (DESIGN.md section 5).
#ifndef HAVEN_ENGINE_BACKUP_SLOT_LEDGER_H_
#define HAVEN_ENGINE_BACKUP_SLOT_LEDGER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

// Most epochs that are committed and not applied yet. With this many outstanding the next commit
// record waits in the peer's slot until one of them is applied.
inline constexpr size_t kMaxUnappliedEpochs = 4;

// Ring positions [tail(), next()) belong to epochs that are committed and not applied; the ring's
// other slots are free for the peer. An extent of the pool is free, granted to the epoch that is
// being received, or part of a committed epoch. Slots come back in the order of the commits, each
// epoch's when its apply is complete. Nothing the peer writes changes an account: the driver's
// calls do. One object serves one session. Not thread-safe; allocates in the constructor only.
class SlotLedger {
 public:
  // `geometry` is valid (checked).
  explicit SlotLedger(const JournalGeometry& geometry);

  const JournalGeometry& geometry() const { return geometry_; }

  // First position that is still in use: what the acknowledgement publishes as ring_tail.
  RingPosition tail() const { return tail_; }
  // Where the next epoch begins.
  RingPosition next() const { return next_; }
  uint32_t free_ring_slots() const {
    return geometry_.ring_slots - static_cast<uint32_t>(next_ - tail_);
  }
  uint32_t free_extents() const { return static_cast<uint32_t>(free_extents_.size()); }

  // Epochs committed and not released.
  size_t unapplied() const { return unapplied_count_; }
  // True if no further epoch can be committed before a Release().
  bool full() const { return unapplied_count_ == kMaxUnappliedEpochs; }

  // Grants `indices.size()` free extents to `epoch` and writes their indices, in the order in which
  // the epoch is to use them. A second grant to the same epoch adds to the first. A grant to a
  // newer epoch takes back what an older one that was never committed still holds: one link carries
  // one epoch after the other, so nothing of the older can land after the newer's. All or nothing:
  //   InvalidArgument    no extent asked for; the epoch is committed already or older than the
  //   holder of
  //                      the present grant; more than kMaxEpochExtents in all.
  //   ResourceExhausted  not so many are free: ask again after a Release(), or never if the pool
  //                      itself is smaller; the message says which.
  absl::Status GrantExtents(Epoch epoch, std::span<uint32_t> indices);

  // The epoch that holds a grant and is not committed; kNoEpoch if there is none.
  Epoch granted_epoch() const { return granted_epoch_; }

  // Its extents, in the order of their grant. Valid until the next call that is not const.
  std::span<const uint32_t> granted() const { return {granted_.data(), granted_count_}; }

  // Takes back every grant. For the beginning of a link: the queue pairs of the last one are
  // destroyed.
  void DropGrants();

  // OK if `epoch` may lie at `placement`, which is valid for the geometry. InvalidArgument naming
  // the field and its value: it does not begin at next(), needs ring slots that are not free, or
  // names an extent that was not granted to this epoch.
  absl::Status Check(Epoch epoch, const EpochPlacement& placement) const;

  // Enters a committed epoch, newer than all before, for which Check() is OK and full() is false
  // (all checked). What was granted to it and is not part of it is free again.
  void Commit(Epoch epoch, const EpochPlacement& placement);

  // Frees the slots of the oldest committed epoch, which is `epoch` (checked): it is applied.
  void Release(Epoch epoch);

 private:
  enum class ExtentUse : uint8_t { kFree, kGranted, kCommitted };

  struct Unapplied {
    Epoch epoch = kNoEpoch;
    RingPosition end = 0;
    uint32_t extent_count = 0;
    std::array<uint32_t, kMaxEpochExtents> extents{};
  };

  void Free(uint32_t extent);
  bool IsGranted(Epoch epoch, uint32_t extent) const;

  JournalGeometry geometry_;
  RingPosition tail_ = 0;
  RingPosition next_ = 0;
  Epoch last_committed_ = kNoEpoch;

  std::vector<ExtentUse> extent_use_;   // By extent.
  std::vector<uint32_t> free_extents_;  // A stack; its capacity is the number of extents.
  Epoch granted_epoch_ = kNoEpoch;
  uint32_t granted_count_ = 0;
  std::array<uint32_t, kMaxEpochExtents> granted_{};

  std::array<Unapplied, kMaxUnappliedEpochs> unapplied_{};  // A ring from unapplied_first_ on.
  size_t unapplied_first_ = 0;
  size_t unapplied_count_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_SLOT_LEDGER_H_
