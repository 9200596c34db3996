// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/compressor.h"

// The functions that place zstd's contexts in given memory.
#define ZSTD_STATIC_LINKING_ONLY
#include <lz4.h>
#include <zstd.h>

#include <vector>

#include "engine/base/check.h"

namespace haven {
namespace {

constexpr int kZstdLevel = 1;

// zstd wants its workspace aligned to 8 bytes.
std::vector<uint64_t> Workspace(size_t bytes) { return std::vector<uint64_t>(bytes / 8 + 1); }
size_t Bytes(const std::vector<uint64_t>& workspace) { return workspace.size() * 8; }

char* Chars(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }
const char* Chars(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }

}  // namespace

const char* CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "none";
    case Compression::kLz4:
      return "lz4";
    case Compression::kZstd:
      return "zstd";
  }
  return "unknown";
}

struct Compressor::State {
  std::vector<uint64_t> lz4 = Workspace(static_cast<size_t>(LZ4_sizeofState()));
  ZSTD_compressionParameters zstd_params =
      ZSTD_getCParams(kZstdLevel, kMaxCompressBytes, /*dictSize=*/0);
  std::vector<uint64_t> zstd_memory = Workspace(ZSTD_estimateCCtxSize_usingCParams(zstd_params) +
                                                ZSTD_estimateCCtxSize(kZstdLevel));
  ZSTD_CCtx* zstd = ZSTD_initStaticCCtx(zstd_memory.data(), Bytes(zstd_memory));
};

Compressor::Compressor() : state_(std::make_unique<State>()) {
  HAVEN_CHECK(state_->zstd != nullptr);
}
Compressor::~Compressor() = default;

size_t Compressor::Compress(Compression method, std::span<const std::byte> from,
                            std::span<std::byte> to) {
  HAVEN_CHECK_LE(from.size(), kMaxCompressBytes);
  switch (method) {
    case Compression::kLz4: {
      const int bytes = LZ4_compress_fast_extState(
          state_->lz4.data(), Chars(from.data()), Chars(to.data()), static_cast<int>(from.size()),
          static_cast<int>(std::min(to.size(), 2 * kMaxCompressBytes)), /*acceleration=*/1);
      return static_cast<size_t>(bytes);
    }
    case Compression::kZstd: {
      const size_t bytes = ZSTD_compressCCtx(state_->zstd, to.data(), to.size(), from.data(),
                                             from.size(), kZstdLevel);
      return ZSTD_isError(bytes) != 0 ? 0 : bytes;
    }
    case Compression::kNone:
      break;
  }
  HAVEN_CHECK(false) << "method=" << static_cast<int>(method);
  return 0;
}

struct Decompressor::State {
  std::vector<uint64_t> zstd_memory = Workspace(ZSTD_estimateDCtxSize());
  ZSTD_DCtx* zstd = ZSTD_initStaticDCtx(zstd_memory.data(), Bytes(zstd_memory));
};

Decompressor::Decompressor() : state_(std::make_unique<State>()) {
  HAVEN_CHECK(state_->zstd != nullptr);
}
Decompressor::~Decompressor() = default;

bool Decompressor::Decompress(Compression method, std::span<const std::byte> from,
                              std::span<std::byte> to) {
  // Also keeps the sizes within what the libraries' types hold.
  if (to.empty() || to.size() > kMaxCompressBytes || from.size() > 2 * kMaxCompressBytes) {
    return false;
  }
  switch (method) {
    case Compression::kLz4:
      return LZ4_decompress_safe(Chars(from.data()), Chars(to.data()),
                                 static_cast<int>(from.size()),
                                 static_cast<int>(to.size())) == static_cast<int>(to.size());
    case Compression::kZstd: {
      // Exactly one frame: the library would also take several, and skippable ones.
      if (ZSTD_findFrameCompressedSize(from.data(), from.size()) != from.size()) return false;
      return ZSTD_decompressDCtx(state_->zstd, to.data(), to.size(), from.data(), from.size()) ==
             to.size();
    }
    case Compression::kNone:
      break;
  }
  HAVEN_CHECK(false) << "method=" << static_cast<int>(method);
  return false;
}

}  // namespace haven
