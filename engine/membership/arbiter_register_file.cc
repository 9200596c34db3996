// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_register_file.h"

#include <cstdint>
#include <span>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"

namespace haven {
namespace {

constexpr absl::string_view kHeaderStart = "haven-register-file1 current=";

// The text followed by spaces and a newline, one record long.
std::string Pad(std::string text) {
  HAVEN_CHECK_LT(text.size(), kRegisterRecordBytes);
  text.resize(kRegisterRecordBytes - 1, ' ');
  text.push_back('\n');
  return text;
}

std::string Header(absl::string_view group, int current_slot) {
  return Pad(absl::StrCat(kHeaderStart, current_slot, " group=", group));
}

// The text of a record without its padding; what is not padded like a record stays as it is and
// fails its parser.
absl::string_view Unpad(absl::string_view record) {
  if (record.empty() || record.back() != '\n') return record;
  record.remove_suffix(1);
  const size_t last = record.find_last_not_of(' ');
  return record.substr(0, last == absl::string_view::npos ? 0 : last + 1);
}

std::string Checksummed(absl::string_view line) {
  const uint32_t crc = Crc32c(std::as_bytes(std::span(line.data(), line.size())));
  return absl::StrFormat("crc32c=%08x %s", crc, line);
}

absl::StatusOr<Register> DecodeSlot(int slot, absl::string_view record) {
  constexpr size_t kChecksumBytes = sizeof("crc32c=xxxxxxxx ") - 1;
  const absl::string_view text = Unpad(record);
  const auto error = [slot, text](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("slot ", slot, " of the register file ", what, ": '",
                     absl::CHexEscape(text.substr(0, 2 * kRegisterRecordBytes / 3)), "'"));
  };
  if (text.size() < kChecksumBytes) return error("is too short");
  const absl::string_view line = text.substr(kChecksumBytes);
  if (Checksummed(line) != text) return error("does not match its checksum");
  absl::StatusOr<Register> value = ParseRegister(line);
  if (!value.ok()) return error(value.status().message());
  return value;
}

}  // namespace

absl::StatusOr<RegisterFileContent> DecodeRegisterFile(absl::string_view group,
                                                       absl::string_view bytes) {
  if (bytes.empty()) return RegisterFileContent{};
  if (bytes.size() != kRegisterFileBytes) {
    return absl::DataLossError(absl::StrCat("the register file has ", bytes.size(),
                                            " bytes instead of ", kRegisterFileBytes));
  }
  const absl::string_view header = bytes.substr(0, kRegisterRecordBytes);
  for (const int slot : {0, 1}) {
    if (header != Header(group, slot)) continue;
    absl::StatusOr<Register> value =
        DecodeSlot(slot, bytes.substr(RegisterSlotOffset(slot), kRegisterRecordBytes));
    if (!value.ok()) return value.status();
    return RegisterFileContent{*value, slot};
  }
  return absl::DataLossError(
      absl::StrCat("the header of the register file is not that of group ", group, ": '",
                   absl::CHexEscape(Unpad(header).substr(0, kRegisterRecordBytes / 4)), "'"));
}

std::string EncodeRegisterFile(absl::string_view group, const Register& value) {
  return absl::StrCat(Header(group, 0), EncodeRegisterSlot(value), Pad(""));
}

std::string EncodeRegisterSlot(const Register& value) {
  return Pad(Checksummed(FormatRegister(value)));
}

size_t RegisterCurrentDigitOffset() { return kHeaderStart.size(); }

}  // namespace haven
