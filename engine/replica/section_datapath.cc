// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "engine/base/crc32c.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"
#include "engine/replica/section.h"

namespace haven {
namespace {

constexpr size_t kMagicOffset = 0;
constexpr size_t kVersionOffset = 4;

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

uint32_t SealSection(std::span<std::byte> section) {
  const size_t crc_offset = section.size() - kSectionCrcBytes;
  const uint32_t crc = Crc32c(section.first(crc_offset));
  StoreLe32(section.data() + crc_offset, crc);
  return crc;
}

absl::Status SnapshotSection(absl::string_view what, uint32_t magic, std::span<const std::byte> in,
                             std::span<std::byte> copy) {
  if (in.size() < copy.size()) {
    return FieldError(what, "length in bytes", in.size(), "at least", copy.size());
  }
  // Everything below, and the caller, looks at the copy: a write that lands meanwhile can not
  // change a value between its check and its use.
  std::memcpy(copy.data(), in.data(), copy.size());
  const size_t crc_offset = copy.size() - kSectionCrcBytes;
  const uint32_t stored = LoadLe32(copy.data() + crc_offset);
  const uint32_t computed = Crc32c(copy.first(crc_offset));
  if (stored != computed) {
    if (AllZero(copy)) return NeverWrittenError(what);
    return CrcError(what, "CRC32C", stored, computed);
  }
  const uint32_t found_magic = LoadLe32(copy.data() + kMagicOffset);
  if (found_magic != magic) return FieldError(what, "magic", found_magic, "equal to", magic);
  const uint16_t version = LoadLe16(copy.data() + kVersionOffset);
  if (version != kFormatVersion) {
    return FieldError(what, "version", version, "equal to", kFormatVersion);
  }
  return absl::OkStatus();
}

absl::Status CheckReserved(absl::string_view what, ByteReader& reader, size_t bytes) {
  const size_t offset = reader.position();
  const std::span<const std::byte> reserved = reader.GetBytes(bytes);
  for (size_t i = 0; i < reserved.size(); ++i) {
    if (reserved[i] != std::byte{0}) {
      return ReservedError(what, offset + i, std::to_integer<uint8_t>(reserved[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace haven
