// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/dirty_sets.h"

#include <algorithm>

#include "engine/base/check.h"

namespace haven {

DirtySets::DirtySets(std::span<const GuestMemory* const> memories) {
  HAVEN_CHECK(!memories.empty());
  domains_.resize(memories.size());
  for (size_t i = 0; i < memories.size(); ++i) {
    const size_t words = memories[i]->bitmap_words();
    HAVEN_CHECK_GE(memories[i]->ram_bitmap().size(), words) << "domain=" << i;
    const size_t blocks = (words + kBlockWords - 1) / kBlockWords;
    domains_[i].memory = memories[i];
    const uint64_t tail = memories[i]->page_count() % 64;
    domains_[i].last_word_frames = tail == 0 ? ~uint64_t{0} : (uint64_t{1} << tail) - 1;
    domains_[i].pending.resize(words);
    domains_[i].inflight.resize(words);
    domains_[i].touched.resize((blocks + 63) / 64);
  }
}

void DirtySets::MarkAll() {
  for (size_t i = 0; i < domains_.size(); ++i) MarkAll(i);
}

void DirtySets::MarkAll(size_t domain) {
  DomainSets& sets = domains_[domain];
  std::copy_n(sets.memory->ram_bitmap().begin(), sets.pending.size(), sets.pending.begin());
}

}  // namespace haven
