// SPDX-License-Identifier: Apache-2.0
//
// Which pages an epoch writes and which it refers to: no page may be both (coded_page.h says why).
#ifndef HAVEN_ENGINE_CODEC_EPOCH_PAGE_SET_H_
#define HAVEN_ENGINE_CODEC_EPOCH_PAGE_SET_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/replica/identity.h"

namespace haven {

// Costs two bits for each page of the guests. All memory is allocated at construction; no call
// allocates. Not thread-safe.
class EpochPageSet {
 public:
  // One entry a domain: its page count.
  explicit EpochPageSet(std::span<const uint64_t> page_counts);

  // Forgets the last epoch, in time that grows with what was in it.
  void Begin();

  // Takes in that the epoch writes `count` pages from `first` on, which exist (checked). False: it
  // refers to one of them.
  bool AddWritten(uint16_t domain, Gfn first, uint64_t count);

  // Takes in that the epoch refers to a page. False: the page does not exist, or the epoch writes
  // it.
  bool AddSource(uint16_t domain, Gfn gfn);

  size_t memory_bytes() const;

 private:
  // One bit a page, and a list of the words that are not zero.
  struct Bits {
    std::vector<uint64_t> words;
    std::vector<uint32_t> used;
  };
  struct Domain {
    uint64_t pages = 0;
    Bits written;
    Bits sources;
  };
  static void Set(Bits& bits, size_t word, uint64_t more);
  static bool Has(const Bits& bits, Gfn gfn) {
    return (bits.words[gfn >> 6] >> (gfn & 63) & 1) != 0;
  }

  std::vector<Domain> domains_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_EPOCH_PAGE_SET_H_
