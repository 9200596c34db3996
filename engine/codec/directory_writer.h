// SPDX-License-Identifier: Apache-2.0
//
// Writes the directory of a coded frame (coded_page.h).
#ifndef HAVEN_ENGINE_CODEC_DIRECTORY_WRITER_H_
#define HAVEN_ENGINE_CODEC_DIRECTORY_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/codec/coded_page.h"

namespace haven {

// Size of a varint in bytes.
constexpr size_t VarintBytes(uint32_t value) {
  size_t bytes = 1;
  while ((value >>= 7) != 0) ++bytes;
  return bytes;
}

// Allocates at construction only; has room for any records of one frame that PageCodec makes.
class DirectoryWriter {
 public:
  DirectoryWriter() : bytes_(kMaxDirectoryBytes) {}

  // Starts a frame with blocks of 1 << block_shift bytes.
  void Begin(unsigned block_shift);

  // Appends a record; frame numbers ascend (checked).
  void Append(const CodedPage& page);

  uint32_t records() const { return records_; }
  uint32_t first_gfn() const { return first_gfn_; }
  std::span<const std::byte> written() const { return std::span(bytes_).first(used_); }
  size_t memory_bytes() const { return bytes_.size(); }

 private:
  void PutByte(unsigned value);
  void PutVarint(uint32_t value);
  void PutMask(uint64_t mask);
  void PutPatch(const CodedPage& page);

  std::vector<std::byte> bytes_;
  size_t used_ = 0;
  unsigned block_shift_ = kMinBlockShift;
  uint32_t records_ = 0;
  uint32_t first_gfn_ = 0;
  uint64_t next_gfn_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_DIRECTORY_WRITER_H_
