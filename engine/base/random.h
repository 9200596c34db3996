// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_RANDOM_H_
#define HAVEN_ENGINE_BASE_RANDOM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/base/check.h"

namespace haven {

// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
// 2014): advances `state` and returns the next value. Turns any seed, also 0, 1, 2 ..., into well
// mixed state.
constexpr uint64_t SplitMix64(uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// xoshiro256** 1.0 (Blackman, Vigna, "Scrambled linear pseudorandom number generators", 2018),
// seeded by SplitMix64. The same seed gives the same sequence on every machine and with every
// compiler: for simulation, tests and synthetic load. NOT cryptographic: never for keys, nonces or
// session names. Not thread-safe.
class Random {
 public:
  explicit constexpr Random(uint64_t seed) {
    for (uint64_t& word : state_) word = SplitMix64(seed);
  }

  // Uniform over all 64-bit values.
  constexpr uint64_t Next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // Uniform over [0, bound), without bias; `bound` is not 0. Rejects fewer than half of the draws.
  uint64_t Below(uint64_t bound) {
    HAVEN_CHECK_GT(bound, 0u);
    const uint64_t reject_below = (0 - bound) % bound;  // 2^64 mod bound.
    uint64_t value = Next();
    while (value < reject_below) value = Next();
    return value % bound;
  }

  // Uniform over [low, high]; both ends included.
  int64_t Between(int64_t low, int64_t high) {
    HAVEN_CHECK_LE(low, high);
    const uint64_t width = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
    const uint64_t offset = width == UINT64_MAX ? Next() : Below(width + 1);
    return static_cast<int64_t>(static_cast<uint64_t>(low) + offset);
  }

  // True `numerator` times out of `denominator` on average; `denominator` is not 0.
  bool Chance(uint64_t numerator, uint64_t denominator) { return Below(denominator) < numerator; }

  // Uniform over [0, 1) in steps of 2^-53.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

  void Fill(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const uint64_t value = Next();
      const size_t count = bytes.size() < sizeof(value) ? bytes.size() : sizeof(value);
      std::memcpy(bytes.data(), &value, count);
      bytes = bytes.subspan(count);
    }
  }

 private:
  std::array<uint64_t, 4> state_{};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_RANDOM_H_
