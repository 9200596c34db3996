// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_TEXT_TAIL_H_
#define HAVEN_XEN_BACKUP_TEXT_TAIL_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/fd.h"

namespace haven {

// `text` with '?' for what is not printable.
std::string Printable(absl::string_view text);

// The end of what somebody else has written to a file of text, for a message of ours: printable,
// its lines joined by "; ", at most `max_bytes`. Empty if it can not be read.
std::string TextTail(const UniqueFd& file, size_t max_bytes);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_TEXT_TAIL_H_
