// SPDX-License-Identifier: Apache-2.0
//
// Block hashes of the last acknowledged version of pages: FGBI's baseline for pages whose bytes are
// not kept.
#ifndef HAVEN_ENGINE_CODEC_HASH_BASELINE_H_
#define HAVEN_ENGINE_CODEC_HASH_BASELINE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/codec/block_hash.h"
#include "engine/replica/identity.h"

namespace haven {

// Costs 8 bytes a block and 1 a page: 12.5 % of the guest's memory with blocks of 64 bytes, 6.25 %
// with 128, 3.1 % with 256. All of it is taken and touched at construction: an epoch must not wait
// for page faults.
//
// Each page's entry belongs to the thread that encodes the page; SetKey(), Acknowledge() and
// Forget() are called when none does.
class HashBaseline {
 public:
  // `page_counts`: one entry a domain; empty keeps nothing.
  HashBaseline(std::span<const uint64_t> page_counts, unsigned block_shift);

  // What one of these arguments takes, before there is one.
  static size_t MemoryFor(std::span<const uint64_t> page_counts, unsigned block_shift);

  // For tests: how a page is hashed, as HashKey::Page(), which is the default.
  using PageHash = void (*)(const HashKey& key, const std::byte* page, unsigned block_shift,
                            uint64_t* hashes);
  void set_page_hash(PageHash hash) { page_hash_ = hash; }

  // Hashes by this secret from now on. Drops what is known of all pages.
  void SetKey(const HashKey& key);

  bool enabled() const { return !domains_.empty(); }

  // Hashes the new version, stores its hashes in place of the old ones, and sets `*changed` to the
  // blocks that differ. False, with all blocks set: there was no baseline. Does not allocate.
  bool Replace(uint16_t domain, uint32_t gfn, const std::byte* page, uint64_t* changed);

  // Stores the hashes of a version that the replica holds already.
  void Set(uint16_t domain, uint32_t gfn, const std::byte* page);

  bool Has(uint16_t domain, uint32_t gfn) const {
    return domains_[domain].states[gfn] == State::kStable;
  }

  // The replica holds the new version of these pages; of those that were not hashed, nothing is
  // known any more.
  void Acknowledge(uint16_t domain, uint32_t first, uint32_t count);
  // Drops what is known of these pages.
  void Forget(uint16_t domain, uint32_t first, uint32_t count);
  void Clear();

  size_t memory_bytes() const;

 private:
  enum class State : uint8_t { kNone, kStable, kNew };
  struct Domain {
    std::vector<uint64_t> hashes;
    std::vector<State> states;
  };

  unsigned block_shift_;
  HashKey key_;
  PageHash page_hash_ = [](const HashKey& key, const std::byte* page, unsigned shift,
                           uint64_t* hashes) { key.Page(page, shift, hashes); };
  std::vector<Domain> domains_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_HASH_BASELINE_H_
