// SPDX-License-Identifier: Apache-2.0
//
// The seam between the format, which knows chunks and frames, and the codec, which knows what is in
// a frame of coded pages.
#ifndef HAVEN_ENGINE_REPLICA_CODED_FRAME_CHECK_H_
#define HAVEN_ENGINE_REPLICA_CODED_FRAME_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/replica/frame.h"
#include "engine/replica/identity.h"

namespace haven {

// What EpochValidator asks about an epoch's pages, frame by frame in their order. After OK for all
// of them, applying the coded ones can not fail. Does not allocate if OK.
class CodedFrameCheck {
 public:
  virtual ~CodedFrameCheck() = default;

  // An epoch begins; the last one is forgotten.
  virtual void Begin() = 0;

  // The epoch writes these pages, which are RAM. InvalidArgument: an earlier frame refers to one.
  virtual absl::Status AddRun(uint16_t domain, Gfn first, uint32_t pages) = 0;

  // Checks a frame of coded pages of an existing domain as far as it will ever be read, and sets
  // `*end` to the frame number behind its last page. InvalidArgument names field and value.
  virtual absl::Status AddCoded(const Frame& frame, Gfn* end) = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CODED_FRAME_CHECK_H_
