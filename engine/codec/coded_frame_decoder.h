// SPDX-License-Identifier: Apache-2.0
//
// Reads coded frames (coded_page.h): for the check of an epoch, and again to apply it.
#ifndef HAVEN_ENGINE_CODEC_CODED_FRAME_DECODER_H_
#define HAVEN_ENGINE_CODEC_CODED_FRAME_DECODER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/codec/coded_page.h"
#include "engine/codec/compressor.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// What the header of a coded frame says; `body` is without padding.
struct CodedFrame {
  uint32_t first_gfn = 0;
  uint32_t count = 0;  // Records.
  std::span<const std::byte> body;
};

// Walks the records of one frame after the other. Whatever the bytes are, it stays inside them, and
// what it returns keeps the rules of coded_page.h that concern the frame alone: sizes and limits,
// ascending frame numbers without wrap, parts of a patch inside the page and without overlap, all
// bytes used. Which domains and frame numbers exist, and EpochPageSet's rule, are the caller's. The
// body may be written by a faulty peer while it is read: it is loaded once. All memory is allocated
// at construction. Not thread-safe.
//
//   decoder.Open(frame);
//   while (decoder.Next(&page)) { ... }
//   if (!decoder.status().ok()) ...
class CodedFrameDecoder {
 public:
  CodedFrameDecoder();

  // Starts a frame; a bad one makes Next() return false at once. `frame.body` must stay until the
  // last use of what Next() returns.
  void Open(const CodedFrame& frame);

  // Sets `*page` to the next record and returns true; false at the end or at the first bad record,
  // which status() tells apart. Does not allocate unless it fails.
  bool Next(CodedPage* page);

  // OK, or InvalidArgument naming the record's number, the field and its value.
  const absl::Status& status() const { return status_; }

  // log2 of the block size of the open frame.
  unsigned block_shift() const { return block_shift_; }

  // Whether the open frame's body is compressed, and whether its literals were packed before.
  bool compressed() const { return compressed_; }
  bool packed() const { return packed_; }

  // Bytes allocated.
  size_t memory_bytes() const { return copy_.size() + plain_.size() + unpacked_.size(); }

 private:
  // Of a frame's body.
  struct Header {
    Compression method = Compression::kNone;
    size_t bytes = 0;  // Its own.
    size_t literal_bytes = 0;
    size_t directory_bytes = 0;
    size_t stored_literal_bytes = 0;  // Packed or not.
  };

  bool Fail(const char* field, uint64_t value, const char* rule);
  bool OpenBody(const CodedFrame& frame);
  bool ReadHeader(const CodedFrame& frame, Header* header);
  bool Expand(const Header& header, std::span<const std::byte> content);
  bool ReadTag(CodedPage* page);
  bool ReadSame(CodedPage* page);
  bool ReadPatch(CodedPage* page);
  bool ReadCopies(CodedPage* page, uint64_t* covered);
  bool ReadMask(const char* name, uint64_t* mask, uint64_t* covered);
  bool ReadRuns(CodedPage* page, size_t* literal_bytes);
  bool ReadByte(uint8_t* value);
  bool ReadVarint(uint32_t* value);
  bool TakeLiterals(size_t bytes, CodedPage* page);

  Decompressor decompressor_;
  std::vector<std::byte> copy_;      // A private one of what is decompressed.
  std::vector<std::byte> plain_;     // Literals, packed or not, and directory.
  std::vector<std::byte> unpacked_;  // Literals.

  CodedFrame frame_;
  unsigned block_shift_ = kMinBlockShift;
  bool compressed_ = false;
  bool packed_ = false;
  std::span<const std::byte> directory_;  // What is left of it.
  std::span<const std::byte> literals_;
  uint32_t index_ = 0;
  uint64_t next_gfn_ = 0;
  // Where the page of a raw record lies; nullptr for other kinds.
  std::array<const std::byte*, kMaxCodedPages> raw_pages_;
  absl::Status status_;
};

// Has the processor fetch the first that ApplyCodedPage() will write of the frame's own bytes,
// while it is still at the page before.
void PrefetchForApply(const CodedPage& page, unsigned shift, const std::byte* target);

// Makes `target` what the record says. The record comes from Next(), with `shift` the frame's block
// size; its sources are RAM of `memories`. Writes only the page, also if a source is the page
// itself (which an epoch that was checked does not have). Does not allocate.
void ApplyCodedPage(const CodedPage& page, unsigned shift,
                    std::span<const GuestMemory* const> memories, std::byte* target);

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODED_FRAME_DECODER_H_
