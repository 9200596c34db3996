// SPDX-License-Identifier: Apache-2.0
//
// The file in which FileArbiter keeps one register: text, and changed in place without ever being
// half changed.
//
//   bytes    0 -  511   "haven-register-file1 current=S group=NAME", S = 0 or 1
//   bytes  512 - 1023   slot 0
//   bytes 1024 - 1535   slot 1
//
// Each of the three records is padded with spaces and ends with a newline. A used slot holds
// "crc32c=xxxxxxxx " and the register's line (register.h); the checksum is over the line. A change
// fills the slot that is not current, makes it durable, and then flips S, one byte in a sector of
// its own. Whatever cuts that short leaves the old value or the new one, and a bad current slot is
// always damage, never an interrupted write. An empty file means that there is no register.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_REGISTER_FILE_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_REGISTER_FILE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/membership/register.h"

namespace haven {

inline constexpr size_t kRegisterRecordBytes = 512;
inline constexpr size_t kRegisterFileBytes = 3 * kRegisterRecordBytes;

struct RegisterFileContent {
  std::optional<Register> value;  // nullopt: there is no register.
  int current_slot = 0;           // 0 or 1; without meaning when there is no register.
};

// DataLoss names what is wrong with the file of `group`: its size, its header, another group's
// name, the current slot.
absl::StatusOr<RegisterFileContent> DecodeRegisterFile(absl::string_view group,
                                                       absl::string_view bytes);

// A whole new file with `value` in slot 0.
std::string EncodeRegisterFile(absl::string_view group, const Register& value);

// The record to be written at RegisterSlotOffset.
std::string EncodeRegisterSlot(const Register& value);

constexpr size_t RegisterSlotOffset(int slot) {
  return kRegisterRecordBytes * static_cast<size_t>(1 + slot);
}

// Where in the file the digit S stands.
size_t RegisterCurrentDigitOffset();

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_REGISTER_FILE_H_
