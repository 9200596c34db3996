// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/frame.h"

#include "absl/strings/str_cat.h"
#include "engine/replica/format_error.h"

namespace haven {

bool FrameCursor::Fail(const char* field, uint64_t value, const char* rule) {
  status_ = FieldError(absl::StrCat("frame ", frame_count_, " at payload offset ", offset_), field,
                       value, rule);
  return false;
}

}  // namespace haven
