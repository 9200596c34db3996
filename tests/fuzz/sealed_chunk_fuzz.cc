// SPDX-License-Identifier: Apache-2.0
//
// Input: a byte to change (its place in two bytes) and the bits to flip in it, then a payload. The
// payload is sealed, the byte changed and the header's CRC repaired: it opens only if no bit that
// counts was flipped. What is behind the first three bytes is then read as a whole chunk, too,
// which nobody has sealed: it does not open.
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/frame.h"
#include "engine/replica/layout.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr SealKey kKey = {std::byte{42}};
constexpr size_t kCrcAt = kChunkHeaderBytes - sizeof(uint32_t);

bool Opens(ChunkOpener& opener, std::span<const std::byte> slot, std::vector<std::byte>* plain) {
  ChunkHeader header;
  uint32_t crc = 0;
  if (!DecodeChunkHeader(slot, &header, &crc).ok()) return false;
  const auto opened = opener.Open(header, ChunkPayload(slot, header));
  if (opened.ok()) plain->assign(opened->begin(), opened->end());
  return opened.ok();
}

void RunOne(std::span<const std::byte> input) {
  static const std::unique_ptr<ChunkSealer> sealer = *ChunkSealer::Create(kKey);
  static const std::unique_ptr<ChunkOpener> opener = *ChunkOpener::Create(kKey, kMinSlotBytes);
  if (input.size() < 3 + kFrameAlignment) return;
  const size_t place = LoadLe16(input.data());
  const std::byte flip = input[2];
  const std::span<const std::byte> rest =
      input.subspan(3).first(std::min(input.size() - 3, size_t{kMinSlotBytes}));
  const size_t payload_bytes =
      std::min(rest.size(), kMinSlotBytes - kChunkHeaderBytes) / kFrameAlignment * kFrameAlignment;

  std::vector<std::byte> slot(kMinSlotBytes);
  std::copy_n(rest.begin(), payload_bytes, slot.begin() + kChunkHeaderBytes);
  EncodeChunkHeader({.identity = {.session = 1, .link = 2, .epoch = 3, .index = 4},
                     .payload_bytes = static_cast<uint32_t>(payload_bytes),
                     .frame_count = 1},
                    std::span(slot).first<kChunkHeaderBytes>());
  sealer->Seal(slot);
  const size_t changed = place % (kChunkHeaderBytes + payload_bytes);
  const bool counts = flip != std::byte{0} && (changed < kCrcAt || changed >= kChunkHeaderBytes);
  slot[changed] ^= flip;
  RepairSection(std::span(slot).first(kChunkHeaderBytes));
  std::vector<std::byte> plain;
  HAVEN_CHECK_EQ(Opens(*opener, slot, &plain), !counts) << "byte " << changed;
  if (!counts) HAVEN_CHECK(std::equal(plain.begin(), plain.end(), rest.begin()));

  std::vector<std::byte> foreign(kMinSlotBytes);
  std::ranges::copy(rest, foreign.begin());
  RepairSection(std::span(foreign).first(kChunkHeaderBytes));
  HAVEN_CHECK(!Opens(*opener, foreign, &plain));
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
