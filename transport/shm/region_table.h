// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_REGION_TABLE_H_
#define HAVEN_TRANSPORT_SHM_REGION_TABLE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace haven {

// Most regions that one endpoint may register, and import from its peer.
inline constexpr uint32_t kMaxRegions = 64;

// Where the regions lie, by their ids, for the data path. One thread adds while others look up; a
// region is never removed, and the table outlives every link that uses it.
class RegionTable {
 public:
  // `id` is below kMaxRegions and was not added before.
  void Add(uint32_t id, std::span<std::byte> region) {
    slots_[id].data = region.data();
    slots_[id].bytes.store(region.size(), std::memory_order_release);
  }

  // The `bytes` bytes at `offset` of a region; nullptr if there is no such region or they do not
  // all lie in it. Any arguments are safe.
  std::byte* Find(uint64_t id, uint64_t offset, uint64_t bytes) const {
    if (id >= kMaxRegions) return nullptr;
    const uint64_t region_bytes = slots_[id].bytes.load(std::memory_order_acquire);
    if (region_bytes == 0 || bytes > region_bytes || offset > region_bytes - bytes) return nullptr;
    return slots_[id].data + offset;
  }

 private:
  struct Slot {
    std::byte* data = nullptr;
    std::atomic<uint64_t> bytes = 0;
  };
  std::array<Slot, kMaxRegions> slots_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_REGION_TABLE_H_
