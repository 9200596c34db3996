// SPDX-License-Identifier: Apache-2.0
//
// Runs of set bits in a bitmap with one bit a frame, lowest first, found by words of 64.
#ifndef HAVEN_XEN_BASE_FRAME_RUNS_H_
#define HAVEN_XEN_BASE_FRAME_RUNS_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

namespace haven {

// Frames first .. end - 1.
struct FrameRange {
  uint64_t first = 0;
  uint64_t end = 0;

  bool empty() const { return first >= end; }
  friend bool operator==(const FrameRange&, const FrameRange&) = default;
};

namespace frame_runs_internal {

// The first frame of `from` .. `end` - 1 whose bit is `value`, or `end`.
inline uint64_t Find(std::span<const uint64_t> bitmap, uint64_t from, uint64_t end, bool value) {
  while (from < end) {
    const uint64_t word = value ? bitmap[from / 64] : ~bitmap[from / 64];
    const uint64_t rest = word >> (from % 64);
    if (rest != 0) return std::min(end, from + static_cast<uint64_t>(std::countr_zero(rest)));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

}  // namespace frame_runs_internal

// The first run of set bits among frames `from` .. `end` - 1; empty if there is none. `bitmap` has
// a bit for each of them.
inline FrameRange NextFrameRange(std::span<const uint64_t> bitmap, uint64_t from, uint64_t end) {
  const uint64_t first = frame_runs_internal::Find(bitmap, from, end, true);
  return {first, frame_runs_internal::Find(bitmap, first, end, false)};
}

}  // namespace haven

#endif  // HAVEN_XEN_BASE_FRAME_RUNS_H_
