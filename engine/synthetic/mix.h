// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_MIX_H_
#define HAVEN_ENGINE_SYNTHETIC_MIX_H_

#include <cstdint>

namespace haven {

inline constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15;

// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", 2014): a bijection in which every input bit reaches every output bit. Not
// cryptographic: it catches faults, not forgers.
constexpr uint64_t Mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Folds one more value into a key; the order of the values matters.
constexpr uint64_t MixIn(uint64_t key, uint64_t value) {
  return Mix64((key ^ value) + kGoldenGamma);
}

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_MIX_H_
