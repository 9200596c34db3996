// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/epoch_page_set.h"

#include "engine/base/check.h"

namespace haven {

EpochPageSet::EpochPageSet(std::span<const uint64_t> page_counts) {
  for (const uint64_t pages : page_counts) {
    Domain& domain = domains_.emplace_back();
    domain.pages = pages;
    for (Bits* bits : {&domain.written, &domain.sources}) {
      bits->words.resize((pages + 63) / 64);
      bits->used.reserve(bits->words.size());
    }
  }
}

void EpochPageSet::Begin() {
  for (Domain& domain : domains_) {
    for (Bits* bits : {&domain.written, &domain.sources}) {
      for (const uint32_t word : bits->used) bits->words[word] = 0;
      bits->used.clear();
    }
  }
}

void EpochPageSet::Set(Bits& bits, Gfn gfn) {
  uint64_t& word = bits.words[gfn >> 6];
  if (word == 0) bits.used.push_back(static_cast<uint32_t>(gfn >> 6));
  word |= uint64_t{1} << (gfn & 63);
}

bool EpochPageSet::AddWritten(uint16_t domain, Gfn first, uint64_t count) {
  Domain& own = domains_[domain];
  HAVEN_CHECK_LE(first, own.pages);
  HAVEN_CHECK_LE(count, own.pages - first);
  bool good = true;
  for (Gfn gfn = first; gfn < first + count; ++gfn) {
    good = good && !Has(own.sources, gfn);
    Set(own.written, gfn);
  }
  return good;
}

bool EpochPageSet::AddSource(uint16_t domain, Gfn gfn) {
  if (domain >= domains_.size()) return false;
  Domain& own = domains_[domain];
  if (gfn >= own.pages || Has(own.written, gfn)) return false;
  Set(own.sources, gfn);
  return true;
}

size_t EpochPageSet::memory_bytes() const {
  size_t bytes = 0;
  for (const Domain& domain : domains_) {
    for (const Bits* bits : {&domain.written, &domain.sources}) {
      bytes += bits->words.size() * (sizeof(bits->words[0]) + sizeof(bits->used[0]));
    }
  }
  return bytes;
}

}  // namespace haven
