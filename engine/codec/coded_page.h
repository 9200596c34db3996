// SPDX-License-Identifier: Apache-2.0
//
// What a coded frame says about its pages. The frame's body is a header, a directory with one
// record a page, and the literals: bytes that are written to the guest as they are.
//
//   body    u8 compression, u8 block shift (6, 7 or 8), u16 flags, u32 literal bytes, u32 directory
//           bytes, with flag 1 u32 packed literal bytes, then literals and directory, compressed as
//           one block unless compression is 0. Flag 1, only with compression: the literals were
//           packed before (word_packing.h)
//   record  u8 tag: kind in bits 0 .. 1, gap in bits 2 .. 7; gap 63: a varint to add follows. The
//   gap
//           counts the frames between the record before and this one; the first record's is 0.
//     raw   one page of literals
//     zero  nothing
//     same  varint: bit 0 set, index of an earlier raw record of this frame in the other bits; bit
//     0
//           clear, a domain in the other bits and a varint frame number behind it
//     patch u8 flags, then the parts whose flag is set, in this order:
//           copies  u8 number, each: u8 first block, u8 blocks, u8 first block there, varint
//           domain,
//                   varint frame number; ascending, no overlap
//           zeros   mask of blocks, lowest bit first, as many bits as a page has blocks
//           blocks  mask of blocks; one block of literals for each bit
//           runs    varint number, each: varint gap to the run before, varint bytes - 1, as many
//                   literals
//
// varint: seven bits a byte, lowest first, bit 7 set in all bytes but the last; at most five bytes.
//
// Which references are valid, and why the epoch can be applied in parts. A copy, or a same-as with
// a frame number, may name only pages that the epoch does not write (EpochPageSet refuses others);
// a same-as with an index names literals of its own frame. So every byte that an epoch writes is
// made from the frame's bytes and from pages that stay as they are: the frames of an epoch may be
// applied in any order, on several threads, again after they were cut off anywhere, and again under
// a new epoch number, and always give the same pages. What a patch leaves alone is what the page
// held at the base epoch, before and after any part of it was applied.
#ifndef HAVEN_ENGINE_CODEC_CODED_PAGE_H_
#define HAVEN_ENGINE_CODEC_CODED_PAGE_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/replica/identity.h"

namespace haven {

inline constexpr size_t kCodedHeaderBytes = 12;
inline constexpr size_t kPackedHeaderBytes = 16;  // With packed literals.
inline constexpr uint16_t kPackedFlag = 1;
// Pages of one frame: what a slot of the usual size holds.
inline constexpr uint32_t kMaxCodedPages = 64;
// A frame's literals and directory are bounded by its records: so little can not expand to much.
inline constexpr size_t kMaxLiteralBytes = size_t{kMaxCodedPages} * kPageBytes;
// More than any record that saves something.
inline constexpr size_t kMaxCodedRecordBytes = kPageBytes;
inline constexpr size_t kMaxDirectoryBytes = kMaxCodedPages * kMaxCodedRecordBytes;

inline constexpr unsigned kMinBlockShift = 6;
inline constexpr unsigned kMaxBlockShift = 8;
inline constexpr size_t kMaxPageBlocks = kPageBytes >> kMinBlockShift;
// Runs of one page; a page that would need more is better off with blocks.
inline constexpr uint32_t kMaxByteRuns = 512;

enum class PageKind : uint8_t { kRaw = 0, kZero = 1, kSame = 2, kPatch = 3 };

// Parts of a patch, as flags.
enum PatchPart : uint8_t {
  kPatchCopies = 1,
  kPatchZeros = 2,
  kPatchBlocks = 4,
  kPatchRuns = 8,
};

// Blocks of another page that are the same.
struct BlockCopy {
  uint8_t first = 0;
  uint8_t blocks = 0;
  uint8_t from = 0;  // The first of them there.
  uint16_t domain = 0;
  uint32_t gfn = 0;
};

struct ByteRun {
  uint16_t at = 0;
  uint16_t bytes = 0;
};

// One record, decoded or to be written. The arrays hold what the counts say.
struct CodedPage {
  PageKind kind = PageKind::kRaw;
  uint32_t gfn = 0;

  // Of a same-as: an earlier raw record of the frame, or a page of the replica.
  bool same_in_frame = false;
  uint16_t same_domain = 0;
  uint32_t same_gfn = 0;
  uint32_t same_index = 0;

  // Of a patch.
  uint32_t copy_count = 0;
  uint32_t run_count = 0;
  uint64_t zeros = 0;  // Masks of blocks.
  uint64_t blocks = 0;
  std::array<BlockCopy, kMaxPageBlocks> copies;
  std::array<ByteRun, kMaxByteRuns> runs;

  // Decoded: the bytes of a raw page, of the page that a same-as names by index, or of a patch's
  // blocks and runs, in the order of the page. Empty otherwise.
  std::span<const std::byte> literals;
};

// A mask with one bit for each block of a page.
constexpr uint64_t AllBlocks(unsigned shift) {
  return ~uint64_t{0} >> (64 - (kPageBytes >> shift));
}

// Calls piece(offset, bytes) for each stretch of adjacent blocks in the mask, in the page's order.
template <typename Piece>
void ForEachStretch(uint64_t blocks, unsigned shift, const Piece& piece) {
  while (blocks != 0) {
    const unsigned first = static_cast<unsigned>(std::countr_zero(blocks));
    const unsigned count = static_cast<unsigned>(std::countr_one(blocks >> first));
    piece(size_t{first} << shift, size_t{count} << shift);
    if (first + count == 64) return;
    blocks &= ~uint64_t{0} << (first + count);
  }
}

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODED_PAGE_H_
