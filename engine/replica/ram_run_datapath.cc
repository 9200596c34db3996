// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "engine/replica/ram_run.h"

namespace haven {

Gfn FirstNotRam(const GuestMemory& memory, Gfn first, uint64_t pages) {
  const Gfn wanted_end = first + pages;
  const Gfn end = std::min(wanted_end, memory.page_count());
  if (first >= end) return first;
  const uint64_t* ram = memory.ram_bitmap().data();
  const uint64_t last_word = (end - 1) >> 6;
  uint64_t word = first >> 6;
  uint64_t missing = ~ram[word] & (~uint64_t{0} << (first & 63));
  while (missing == 0 && word < last_word) missing = ~ram[++word];
  // Without a missing bit countr_zero() is 64, which leads to or beyond the end.
  return std::min(end, (word << 6) + static_cast<uint64_t>(std::countr_zero(missing)));
}

}  // namespace haven
