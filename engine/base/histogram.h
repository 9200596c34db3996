// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_HISTOGRAM_H_
#define HAVEN_ENGINE_BASE_HISTOGRAM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace haven {

// Distribution of durations in fixed memory (about 36 KiB), after the log-linear buckets of
// HdrHistogram: each power of two is cut into 128 equal buckets, so a quantile is off by less than
// 1 part in 128, which is better than two significant digits. Values below 256 ns are exact.
//
// Record is a few instructions and allocates nothing. Copyable. Not thread-safe.
class Histogram {
 public:
  // Longest duration told apart from longer ones: about 73 minutes. Longer ones count as this long,
  // except in max_ns().
  static constexpr unsigned kValueBits = 42;

  // Adds one duration. A negative one (a clock that is not monotonic) counts as 0.
  void Record(int64_t ns) {
    const uint64_t value = ns > 0 ? static_cast<uint64_t>(ns) : 0;
    ++buckets_[BucketOf(value)];
    ++count_;
    last_ns_ = value;
    if (value > max_ns_) max_ns_ = value;
  }

  // Forgets everything.
  void Reset() { *this = Histogram(); }

  uint64_t count() const { return count_; }
  // Largest value so far, exact; 0 if there is none.
  uint64_t max_ns() const { return max_ns_; }
  // Most recent value, exact; 0 if there is none.
  uint64_t last_ns() const { return last_ns_; }

  // Smallest value that at least `per_mille` thousandths (0 to 1000) of the recorded values do not
  // exceed, rounded up to the end of its bucket; 0 if there is none. Walks all buckets: a few
  // microseconds, for reports.
  uint64_t QuantileNs(uint32_t per_mille) const;

 private:
  static constexpr unsigned kSubBits = 7;
  static constexpr size_t kSubBuckets = size_t{1} << kSubBits;
  static constexpr size_t kBuckets = (kValueBits - kSubBits + 1) * kSubBuckets;

  // Values below 2 * kSubBuckets are their own index; above, every octave takes kSubBuckets more.
  static constexpr size_t BucketOf(uint64_t value) {
    if (value >= (uint64_t{1} << kValueBits)) return kBuckets - 1;
    const unsigned bits = static_cast<unsigned>(std::bit_width(value));
    const unsigned shift = bits > kSubBits + 1 ? bits - (kSubBits + 1) : 0;
    return shift * kSubBuckets + static_cast<size_t>(value >> shift);
  }

  // Largest value that falls into a bucket.
  static constexpr uint64_t LastValueOf(size_t bucket) {
    if (bucket < 2 * kSubBuckets) return bucket;
    const unsigned shift = static_cast<unsigned>(bucket / kSubBuckets) - 1;
    const uint64_t first = (kSubBuckets + bucket % kSubBuckets) << shift;
    return first + (uint64_t{1} << shift) - 1;
  }

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_ns_ = 0;
  uint64_t last_ns_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_HISTOGRAM_H_
