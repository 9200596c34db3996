// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/coded_frame_decoder.h"

#include "absl/strings/str_cat.h"
#include "engine/codec/word_packing.h"

namespace haven {

CodedFrameDecoder::CodedFrameDecoder()
    : copy_(kMaxDirectoryBytes + MaxPackedBytes(kMaxLiteralBytes)),
      plain_(copy_.size() + kPackedSlack),
      unpacked_(kMaxLiteralBytes) {}

bool CodedFrameDecoder::Fail(const char* field, uint64_t value, const char* rule) {
  status_ = absl::InvalidArgumentError(absl::StrCat("coded frame at frame number ",
                                                    frame_.first_gfn, " record ", index_, ": ",
                                                    field, " is ", value, ", must be ", rule));
  return false;
}

}  // namespace haven
