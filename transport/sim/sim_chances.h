// SPDX-License-Identifier: Apache-2.0
//
// What may go wrong by chance in the simulation, and who counts it.
#ifndef HAVEN_TRANSPORT_SIM_SIM_CHANCES_H_
#define HAVEN_TRANSPORT_SIM_SIM_CHANCES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "engine/base/random.h"

namespace haven {

// `Kind`: an enumeration that ends with kCount.
template <typename Kind>
class SimChances {
 public:
  explicit SimChances(Random& random) : random_(random) { Clear(); }

  // `per_mille`: chances out of 1000 for each opportunity.
  void Set(Kind kind, uint32_t per_mille) { rates_[Index(kind)] = per_mille; }
  void Clear() { rates_.fill(0); }
  // Called whenever something takes effect.
  void SetObserver(std::function<void(Kind)> observer) { observer_ = std::move(observer); }

  // Whether it is to happen; whoever asks says so by Tell() when it has taken effect.
  bool Drawn(Kind kind) {
    const uint32_t rate = rates_[Index(kind)];
    return rate != 0 && random_.Chance(rate, 1000);
  }
  void Tell(Kind kind) const {
    if (observer_) observer_(kind);
  }
  bool Happens(Kind kind) {
    if (!Drawn(kind)) return false;
    Tell(kind);
    return true;
  }

 private:
  static size_t Index(Kind kind) { return static_cast<size_t>(kind); }

  Random& random_;
  std::array<uint32_t, static_cast<size_t>(Kind::kCount)> rates_;
  std::function<void(Kind)> observer_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SIM_SIM_CHANCES_H_
