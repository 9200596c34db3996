// SPDX-License-Identifier: Apache-2.0
//
// The backup's check of an epoch's coded pages, before it acknowledges them.
#ifndef HAVEN_ENGINE_CODEC_CODED_EPOCH_CHECK_H_
#define HAVEN_ENGINE_CODEC_CODED_EPOCH_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/codec/coded_frame_decoder.h"
#include "engine/codec/epoch_page_set.h"
#include "engine/replica/coded_frame_check.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// Decodes each coded frame to its end and holds it against the guests' RAM, against what the epoch
// writes, and against the features that were agreed on: a same-as or a copy needs same-as, the
// other parts of a patch changed-blocks, a compressed body compression, and packed literals
// packed-literals. All memory is allocated at construction. Not thread-safe.
class CodedEpochCheck final : public CodedFrameCheck {
 public:
  // `memories` outlive the object; one a domain. `features`: the mask agreed on (features.h).
  CodedEpochCheck(std::span<const GuestMemory* const> memories, uint64_t features);

  void Begin() override { pages_.Begin(); }
  absl::Status AddRun(uint16_t domain, Gfn first, uint32_t pages) override;
  absl::Status AddCoded(const Frame& frame, Gfn* end) override;

  size_t memory_bytes() const { return pages_.memory_bytes() + decoder_.memory_bytes(); }

 private:
  absl::Status AddPage(uint16_t domain);
  bool AddSources();
  absl::Status CheckFeature(uint64_t feature, const char* what) const;
  absl::Status SourceError() const;

  const std::vector<const GuestMemory*> memories_;
  const uint64_t features_;
  EpochPageSet pages_;
  CodedFrameDecoder decoder_;
  CodedPage page_;
};

// OK if the record's page is RAM of `domain`, and what it refers to RAM of the domain that it
// names. InvalidArgument otherwise, naming the frame number. Does not allocate if OK.
absl::Status CheckCodedPage(const CodedPage& page, uint16_t domain,
                            std::span<const GuestMemory* const> memories);

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODED_EPOCH_CHECK_H_
