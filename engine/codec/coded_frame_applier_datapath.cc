// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/codec/coded_epoch_check.h"
#include "engine/codec/coded_frame_applier.h"

namespace haven {

absl::Status CodedFrameApplier::Apply(const CodedFrame& frame, uint16_t domain,
                                      std::span<const GuestMemory* const> memories) {
  decoder_.Open(frame);
  const unsigned shift = decoder_.block_shift();
  const GuestMemory& memory = *memories[domain];
  CodedPage* page = &pages_[0];
  CodedPage* next = &pages_[1];
  std::byte* target = nullptr;  // Of `page`.
  while (decoder_.Next(next)) {
    HAVEN_RETURN_IF_ERROR(CheckCodedPage(*next, domain, memories));
    std::byte* const next_target = memory.Page(next->gfn);
    PrefetchForApply(*next, shift, next_target);
    if (target != nullptr) ApplyCodedPage(*page, shift, memories, target);
    std::swap(page, next);
    target = next_target;
  }
  HAVEN_RETURN_IF_ERROR(decoder_.status());
  if (target != nullptr) ApplyCodedPage(*page, shift, memories, target);
  return absl::OkStatus();
}

}  // namespace haven
