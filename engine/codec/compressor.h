// SPDX-License-Identifier: Apache-2.0
//
// General compression behind one interface: LZ4 and zstd, both tuned to speed.
#ifndef HAVEN_ENGINE_CODEC_COMPRESSOR_H_
#define HAVEN_ENGINE_CODEC_COMPRESSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace haven {

// The values stand in the frames.
enum class Compression : uint8_t {
  kNone = 0,
  kLz4 = 1,   // A block as LZ4_compress_fast makes it, acceleration 1.
  kZstd = 2,  // One frame without checksum, by level 1 made faster.
};
inline constexpr uint8_t kCompressions = 3;

// "none", "lz4" or "zstd"; "unknown" for another value.
const char* CompressionName(Compression compression);

// The largest input, in bytes, of Compressor and of Decompressor's output.
inline constexpr size_t kMaxCompressBytes = size_t{1} << 20;

// All memory is allocated at construction. Not thread-safe.
class Compressor {
 public:
  Compressor();
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  // Compresses `from` (at most kMaxCompressBytes, checked) into `to`; `method` is not kNone
  // (checked). Returns the bytes written; 0 if the result does not fit. Does not allocate.
  size_t Compress(Compression method, std::span<const std::byte> from, std::span<std::byte> to);

  // Of the contexts of both methods.
  size_t memory_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The other direction. `from` may be anything and may come from an enemy, but must not change
// meanwhile. All memory is allocated at construction. Not thread-safe.
class Decompressor {
 public:
  Decompressor();
  ~Decompressor();
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  // True if `from` is exactly one well-formed compressed block that expands to exactly `to.size()`
  // bytes; they are in `to` then. Otherwise `to` holds anything. `method` is not kNone (checked).
  // Does not allocate.
  bool Decompress(Compression method, std::span<const std::byte> from, std::span<std::byte> to);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_COMPRESSOR_H_
