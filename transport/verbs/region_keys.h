// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_REGION_KEYS_H_
#define HAVEN_TRANSPORT_VERBS_REGION_KEYS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/check.h"
#include "transport/verbs/blob.h"

namespace haven {

// Most regions of one endpoint.
inline constexpr uint32_t kMaxRegions = 64;

// Where this side's regions lie and their local keys on each rail, by their ids, for the data path.
// One thread adds while others look up; a region is never removed, and the table outlives every
// link that uses it.
class RegionKeys {
 public:
  using Keys = std::array<uint32_t, kMaxRails>;

  // `id` is below kMaxRegions and was not added before.
  void Add(uint32_t id, std::span<std::byte> region, const Keys& lkeys) {
    HAVEN_CHECK_LT(id, kMaxRegions);
    slots_[id].data = region.data();
    slots_[id].lkeys = lkeys;
    slots_[id].bytes.store(region.size(), std::memory_order_release);
  }

  // The `bytes` bytes at `offset` of a region; nullptr if there is no such region or they do not
  // all lie in it. Any arguments are safe.
  std::byte* Find(uint32_t id, uint64_t offset, uint64_t bytes) const {
    if (id >= kMaxRegions) return nullptr;
    const uint64_t region_bytes = slots_[id].bytes.load(std::memory_order_acquire);
    if (region_bytes == 0 || bytes > region_bytes || offset > region_bytes - bytes) return nullptr;
    return slots_[id].data + offset;
  }

  // Of a region that Find() has found.
  uint32_t LocalKey(uint32_t id, uint32_t rail) const { return slots_[id].lkeys[rail]; }

 private:
  struct Slot {
    std::byte* data = nullptr;
    Keys lkeys = {};
    std::atomic<uint64_t> bytes = 0;
  };
  std::array<Slot, kMaxRegions> slots_;
};

// A RemoteRegion's key holds the peer's remote keys of both rails.
inline uint64_t PackRemoteKeys(const std::array<uint32_t, kMaxRails>& rkeys) {
  static_assert(kMaxRails == 2);
  return uint64_t{rkeys[1]} << 32 | rkeys[0];
}
inline uint32_t RemoteKey(uint64_t key, uint32_t rail) {
  return static_cast<uint32_t>(rail == 0 ? key : key >> 32);
}

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_REGION_KEYS_H_
