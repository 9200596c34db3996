// SPDX-License-Identifier: Apache-2.0
//
// Leaves out the zero words of literals before they are compressed. In memory of programs every
// second word is zero; without them a compressor has less to go through, and finds more.
//
//   packed   for each 64 literals from the start on u16: bit i is set if the i-th word of 4 bytes
//   is
//            not zero; then these words; then the literals that are no whole 64, as they are
#ifndef HAVEN_ENGINE_CODEC_WORD_PACKING_H_
#define HAVEN_ENGINE_CODEC_WORD_PACKING_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/codec/coded_page.h"

namespace haven {

// Bytes of literals with one mask.
inline constexpr size_t kPackedStretch = 64;

// What `literal_bytes` need at most when they are packed.
constexpr size_t MaxPackedBytes(size_t literal_bytes) {
  return literal_bytes + literal_bytes / kPackedStretch * sizeof(uint16_t);
}

// Room that PackLiterals() needs in front of a frame's literals.
inline constexpr size_t kMaskRoom = MaxPackedBytes(kMaxLiteralBytes) - kMaxLiteralBytes;
// Bytes behind packed literals that UnpackLiterals() may read.
inline constexpr size_t kPackedSlack = 64;

// One variant.
struct WordPacker {
  const char* name;  // "avx512" or "words".

  // Of `stretches` stretches at `from`: puts a mask of 2 bytes each to `masks` and the words that
  // are not zero one behind the other to `to`, which may be `from`. Returns the bytes of the words.
  // Behind these it may write anything up to where the last stretch ends, counted from `from`.
  size_t (*pack)(const std::byte* from, size_t stretches, std::byte* masks, std::byte* to);

  // The other way. `words` holds as many as the masks say, and kPackedSlack bytes more.
  void (*unpack)(const std::byte* masks, const std::byte* words, size_t stretches, std::byte* to);
};

// The fastest variant for this processor; looked up once.
const WordPacker& BestPacker();

// All variants that this processor can run, for tests.
std::span<const WordPacker* const> AvailablePackers();

// Packs literals in place; there are kMaskRoom bytes of room in front of them. Returns where they
// are now: it begins in that room and ends where the literals ended or before.
std::span<std::byte> PackLiterals(std::span<std::byte> literals,
                                  const WordPacker& packer = BestPacker());

// True if `packed`, which may be any bytes, is exactly what `literals` are packed to; they hold
// what was packed then. kPackedSlack bytes behind `packed` can be read.
bool UnpackLiterals(std::span<const std::byte> packed, std::span<std::byte> literals,
                    const WordPacker& packer = BestPacker());

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_WORD_PACKING_H_
