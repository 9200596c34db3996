// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_GROWING_REST_H_
#define HAVEN_ENGINE_BASE_GROWING_REST_H_

#include <algorithm>
#include <cstdint>

namespace haven {

// When to try again what was tried in vain, counted in occasions: so many of them are left out,
// then twice as many and one more, up to a longest. Without a clock. Not thread-safe.
class GrowingRest {
 public:
  // Occasions left out after the first attempt in vain, and at most.
  GrowingRest(uint32_t first, uint32_t longest) : first_(first), longest_(longest), next_(first) {}

  // It was tried in vain.
  void Begin() {
    left_ = next_;
    next_ = std::min(2 * next_ + 1, longest_);
  }
  // It was worth it: the next rest is the first one again.
  void End() {
    left_ = 0;
    next_ = first_;
  }
  // An occasion. True: it is left out.
  bool Rests() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }
  bool over() const { return left_ == 0; }

 private:
  uint32_t first_;
  uint32_t longest_;
  uint32_t next_;
  uint32_t left_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_GROWING_REST_H_
