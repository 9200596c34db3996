// SPDX-License-Identifier: Apache-2.0
//
// Which frames a synthetic guest has.
#ifndef HAVEN_ENGINE_SYNTHETIC_LAYOUT_H_
#define HAVEN_ENGINE_SYNTHETIC_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/replica/guest_memory.h"
#include "engine/replica/identity.h"
#include "engine/synthetic/spec.h"

namespace haven {

// A range of RAM pages, counted without the holes between them.
struct RamRange {
  uint64_t first = 0;
  uint64_t pages = 0;
};

// The physical address space, shaped like that of a PVH guest, so that whatever handles it meets
// what it meets there: RAM with the hole of the VGA window below 1 MiB, RAM, an unmapped gap, then
// special pages that the guest writes and logs as dirty although they take no part in epochs.
// Immutable, thread-safe.
class SyntheticLayout {
 public:
  static constexpr Gfn kHoleFirst = 0xa0;
  static constexpr uint64_t kHolePages = 0x20;
  static constexpr uint64_t kGapPages = 24;
  static constexpr uint64_t kSpecialPages = 8;

  explicit SyntheticLayout(const SyntheticSpec& spec);

  uint64_t ram_pages() const { return ram_pages_; }

  // Highest frame number plus one.
  uint64_t page_count() const { return special_first() + kSpecialPages; }

  // Bytes of an address space that holds every frame at its place, holes included.
  size_t bytes() const { return static_cast<size_t>(page_count() * kPageBytes); }

  // Bytes of a bitmap with one bit a frame, in whole pages.
  size_t bitmap_bytes() const;

  Gfn special_first() const { return ram_pages_ + kHolePages + kGapPages; }

  // Frame of the RAM page with this index below ram_pages().
  Gfn RamFrame(uint64_t index) const { return index < kHoleFirst ? index : index + kHolePages; }

  // The pages that only `vcpu` writes. The partitions cover all RAM and do not overlap.
  RamRange Partition(uint32_t vcpu) const;

  // The address space mapped at `base`, which is page-aligned and has bytes() bytes.
  GuestMemory View(std::byte* base) const;

 private:
  uint64_t ram_pages_;
  uint32_t vcpus_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_LAYOUT_H_
