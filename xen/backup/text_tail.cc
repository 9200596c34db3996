// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/text_tail.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace haven {

std::string Printable(absl::string_view text) {
  std::string shown(text);
  for (char& c : shown) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return shown;
}

std::string TextTail(const UniqueFd& file, size_t max_bytes) {
  struct stat known;
  if (fstat(file.get(), &known) != 0) return "";
  const off_t from = std::max<off_t>(0, known.st_size - static_cast<off_t>(max_bytes));
  std::string text(static_cast<size_t>(known.st_size - from), '\0');
  const ssize_t got = pread(file.get(), text.data(), text.size(), from);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(text, absl::ByAnyChar("\r\n"))) {
    const std::string shown = Printable(absl::StripAsciiWhitespace(line));
    if (!shown.empty()) lines.push_back(shown);
  }
  // The separators are longer than the line ends they replace.
  const std::string joined = absl::StrJoin(lines, "; ");
  return joined.size() <= max_bytes ? joined : joined.substr(joined.size() - max_bytes);
}

}  // namespace haven
