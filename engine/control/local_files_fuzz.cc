// SPDX-License-Identifier: Apache-2.0
//
// A node's own files, as a crash, a full disk or a hand may have left them. The first byte of the
// input chooses the decoder.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/control/group_record.h"
#include "engine/control/status_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'g') {
    const absl::StatusOr<haven::GroupRecord> record = haven::ParseGroupRecord(text);
    if (!record.ok()) return 0;
    // What is taken can be saved, and is then read as it was.
    HAVEN_CHECK_OK(haven::CheckGroupRecord(*record));
    const absl::StatusOr<haven::GroupRecord> again =
        haven::ParseGroupRecord(haven::FormatGroupRecord(*record));
    HAVEN_CHECK_OK(again.status());
    HAVEN_CHECK(*again == *record);
    return 0;
  }
  const absl::StatusOr<haven::StatusSnapshot> status = haven::StatusFromJson(text);
  if (!status.ok()) return 0;
  const std::string written = haven::StatusToJson(*status);
  const absl::StatusOr<haven::StatusSnapshot> again = haven::StatusFromJson(written);
  HAVEN_CHECK_OK(again.status());
  HAVEN_CHECK(haven::StatusToJson(*again) == written);
  return 0;
}
