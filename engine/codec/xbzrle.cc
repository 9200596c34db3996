// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/xbzrle.h"

#include <cstdint>
#include <cstring>

#include "engine/base/byte_order.h"

namespace haven {
namespace {

constexpr size_t kWord = sizeof(uint64_t);

// Bytes from `at` on that are equal, by words where there are whole ones, as QEMU does.
size_t EqualBytes(const std::byte* before, const std::byte* after, size_t at) {
  const size_t first = at;
  while (at + kWord <= kPageBytes && LoadLe64(before + at) == LoadLe64(after + at)) at += kWord;
  while (at < kPageBytes && before[at] == after[at]) ++at;
  return at - first;
}

// Bytes from `at` on that all differ. A word has an equal byte if its XOR has a zero byte.
size_t DifferentBytes(const std::byte* before, const std::byte* after, size_t at) {
  constexpr uint64_t kLow = 0x0101010101010101;
  const size_t first = at;
  while (at + kWord <= kPageBytes) {
    const uint64_t differ = LoadLe64(before + at) ^ LoadLe64(after + at);
    if (((differ - kLow) & ~differ & kLow << 7) != 0) break;
    at += kWord;
  }
  while (at < kPageBytes && before[at] != after[at]) ++at;
  return at - first;
}

void PutLength(size_t length, ByteWriter* writer) {
  if (length >= 0x80) {
    writer->PutU8(static_cast<uint8_t>(length | 0x80));
    length >>= 7;
  }
  writer->PutU8(static_cast<uint8_t>(length));
}

bool GetLength(ByteReader* reader, size_t* length) {
  const uint8_t low = reader->GetU8();
  *length = low & 0x7fu;
  if ((low & 0x80) != 0) {
    const uint8_t high = reader->GetU8();
    if ((high & 0x80) != 0) return false;
    *length |= size_t{high} << 7;
  }
  return reader->ok();
}

}  // namespace

std::optional<size_t> XbzrleEncode(std::span<const std::byte, kPageBytes> before,
                                   std::span<const std::byte, kPageBytes> after,
                                   std::span<std::byte> out) {
  ByteWriter writer(out);
  for (size_t at = 0; at < kPageBytes;) {
    const size_t equal = EqualBytes(before.data(), after.data(), at);
    at += equal;
    if (at == kPageBytes) break;
    const size_t different = DifferentBytes(before.data(), after.data(), at);
    PutLength(equal, &writer);
    PutLength(different, &writer);
    writer.PutBytes(after.subspan(at, different));
    if (!writer.ok()) return std::nullopt;
    at += different;
  }
  return writer.position();
}

bool XbzrleDecode(std::span<const std::byte> encoded, std::span<std::byte, kPageBytes> page) {
  ByteReader reader(encoded);
  size_t at = 0;
  while (reader.remaining() > 0) {
    size_t equal = 0;
    size_t different = 0;
    if (!GetLength(&reader, &equal) || !GetLength(&reader, &different)) return false;
    // Only the first run may begin at once, and a run without bytes says nothing.
    if ((equal == 0 && at != 0) || different == 0) return false;
    if (equal + different > kPageBytes - at) return false;
    const std::span<const std::byte> bytes = reader.GetBytes(different);
    if (!reader.ok()) return false;
    at += equal;
    std::memcpy(page.data() + at, bytes.data(), bytes.size());
    at += different;
  }
  return reader.ok();
}

}  // namespace haven
