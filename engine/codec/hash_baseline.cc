// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/hash_baseline.h"

#include <algorithm>
#include <array>

#include "engine/codec/coded_page.h"

namespace haven {

HashBaseline::HashBaseline(std::span<const uint64_t> page_counts, unsigned block_shift)
    : block_shift_(block_shift) {
  for (const uint64_t pages : page_counts) {
    domains_.push_back({.hashes = std::vector<uint64_t>(pages * (kPageBytes >> block_shift)),
                        .states = std::vector<State>(pages, State::kNone)});
  }
}

size_t HashBaseline::MemoryFor(std::span<const uint64_t> page_counts, unsigned block_shift) {
  size_t bytes = 0;
  for (const uint64_t pages : page_counts) {
    bytes += pages * ((kPageBytes >> block_shift) * sizeof(uint64_t) + sizeof(State));
  }
  return bytes;
}

void HashBaseline::SetKey(const HashKey& key) {
  key_ = key;
  Clear();
}

bool HashBaseline::Replace(uint16_t domain, uint32_t gfn, const std::byte* page,
                           uint64_t* changed) {
  Domain& own = domains_[domain];
  const size_t blocks = kPageBytes >> block_shift_;
  std::array<uint64_t, kMaxPageBlocks> hashes;
  page_hash_(key_, page, block_shift_, hashes.data());
  uint64_t* stored = own.hashes.data() + size_t{gfn} * blocks;
  const bool had = own.states[gfn] == State::kStable;
  uint64_t differ = 0;
  for (size_t i = 0; i < blocks; ++i) differ |= uint64_t{hashes[i] != stored[i]} << i;
  std::copy_n(hashes.data(), blocks, stored);
  own.states[gfn] = State::kNew;
  *changed = had ? differ : AllBlocks(block_shift_);
  return had;
}

void HashBaseline::Set(uint16_t domain, uint32_t gfn, const std::byte* page) {
  Domain& own = domains_[domain];
  page_hash_(key_, page, block_shift_,
             own.hashes.data() + size_t{gfn} * (kPageBytes >> block_shift_));
  own.states[gfn] = State::kStable;
}

void HashBaseline::Acknowledge(uint16_t domain, uint32_t first, uint32_t count) {
  for (State& state : std::span(domains_[domain].states).subspan(first, count)) {
    state = state == State::kNew ? State::kStable : State::kNone;
  }
}

void HashBaseline::Forget(uint16_t domain, uint32_t first, uint32_t count) {
  std::ranges::fill(std::span(domains_[domain].states).subspan(first, count), State::kNone);
}

void HashBaseline::Clear() {
  for (Domain& domain : domains_) std::ranges::fill(domain.states, State::kNone);
}

size_t HashBaseline::memory_bytes() const {
  size_t bytes = 0;
  for (const Domain& domain : domains_) {
    bytes += domain.hashes.size() * sizeof(uint64_t) + domain.states.size() * sizeof(State);
  }
  return bytes;
}

}  // namespace haven
