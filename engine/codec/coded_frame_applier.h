// SPDX-License-Identifier: Apache-2.0
//
// Brings coded frames (coded_page.h) that were checked and acknowledged into a replica.
#ifndef HAVEN_ENGINE_CODEC_CODED_FRAME_APPLIER_H_
#define HAVEN_ENGINE_CODEC_CODED_FRAME_APPLIER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/codec/coded_frame_decoder.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// What one thread needs for that: decodes a page ahead of the one that it writes, so that the
// processor fetches the next while it is at this one. All memory is allocated at construction. Not
// thread-safe; one object a thread may work on other frames of an epoch at the same time, as what
// the pages of an epoch refer to is not written by it.
class CodedFrameApplier {
 public:
  // Writes the pages of a frame of `domain`, whose memory is memories[domain]. As the bytes may
  // have changed since they were checked, each record is held against `memories` again
  // (CheckCodedPage): no more than RAM pages are written, whatever the bytes are. InvalidArgument
  // as of CodedFrameDecoder::status() and CheckCodedPage(); some pages before the bad one are
  // written then. Does not allocate unless it fails.
  absl::Status Apply(const CodedFrame& frame, uint16_t domain,
                     std::span<const GuestMemory* const> memories);

 private:
  CodedFrameDecoder decoder_;
  std::array<CodedPage, 2> pages_;  // The one that is written, and the one after it.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODED_FRAME_APPLIER_H_
