// SPDX-License-Identifier: Apache-2.0
#include "engine/base/histogram.h"

#include <algorithm>

#include "engine/base/check.h"

namespace haven {

uint64_t Histogram::QuantileNs(uint32_t per_mille) const {
  static_assert(BucketOf((uint64_t{1} << kValueBits) - 1) == kBuckets - 1);
  static_assert(LastValueOf(kBuckets - 1) == (uint64_t{1} << kValueBits) - 1);
  static_assert(LastValueOf(BucketOf(255)) == 255 && LastValueOf(BucketOf(256)) == 257);
  HAVEN_CHECK_LE(per_mille, 1000u);
  // The rank, counted from 1, of the value asked for. Split so that the product can not overflow.
  const uint64_t rank =
      std::max<uint64_t>(1, count_ / 1000 * per_mille + (count_ % 1000 * per_mille + 999) / 1000);
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) {
      return bucket == kBuckets - 1 ? max_ns_ : std::min(LastValueOf(bucket), max_ns_);
    }
  }
  return 0;
}

}  // namespace haven
