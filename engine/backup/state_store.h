// SPDX-License-Identifier: Apache-2.0
//
// The vCPU and device states that a promotion would use.
#ifndef HAVEN_ENGINE_BACKUP_STATE_STORE_H_
#define HAVEN_ENGINE_BACKUP_STATE_STORE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

// Holds the state of every domain at the newest committed checkpoint, and beside it room for the
// one that is being received. The bytes are copied out of the journal while the epoch is verified,
// so the peer can not change them afterwards. Two sets are enough: a committed epoch is always
// applied before a promotion, so the states of an older one are never wanted again. One object
// serves one session. Allocates (and touches) everything in the constructor. Not thread-safe.
class StateStore {
 public:
  // One entry a domain, 1 .. kMaxDomains of them, each 1 .. kMaxStateBytes (checked).
  explicit StateStore(std::span<const uint32_t> max_state_bytes);

  StateStore(const StateStore&) = delete;
  StateStore& operator=(const StateStore&) = delete;

  uint16_t domain_count() const { return domain_count_; }
  // Largest state of a domain, in bytes.
  uint32_t max_state_bytes(uint16_t domain) const {
    return static_cast<uint32_t>(buffers_[0][domain].size());
  }

  // Where the states of the epoch being received go: one buffer of max_state_bytes() a domain.
  // Valid, and the caller's to write, until the next Commit().
  std::span<const std::span<std::byte>> spare() const;

  // The spare buffers now hold the states of `epoch`, newer than the last one committed here;
  // `state_bytes` are their sizes, one a domain, within the limits (all checked).
  void Commit(Epoch epoch, std::span<const uint32_t> state_bytes);

  // The checkpoint that state() belongs to; kNoEpoch if none was committed yet. A promotion needs
  // this epoch to be the last one applied.
  Epoch epoch() const { return epoch_; }

  // A domain's state at epoch(). Valid until the second Commit() from now, unchanged until the
  // next.
  std::span<const std::byte> state(uint16_t domain) const;

 private:
  uint16_t domain_count_;
  std::array<std::vector<std::vector<std::byte>>, 2> buffers_;
  std::array<std::vector<std::span<std::byte>>, 2> spans_;  // Of buffers_.
  std::array<uint32_t, kMaxDomains> state_bytes_{};         // Of the committed set.
  size_t spare_ = 0;                                        // Index of the spare set.
  Epoch epoch_ = kNoEpoch;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BACKUP_STATE_STORE_H_
