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

// Level 1 for dirty pages: a table that stays in the processor's nearest cache, longer steps where
// nothing matches, and, what zstd itself leaves out with such steps, entropy coding of the
// literals.
struct ZstdChoice {
  ZSTD_cParameter parameter;
  int value;
};
constexpr ZstdChoice kZstdChoices[] = {
    {ZSTD_c_compressionLevel, 1}, {ZSTD_c_strategy, ZSTD_fast},
    {ZSTD_c_windowLog, 18},  // Nearly all frames at once.
    {ZSTD_c_hashLog, 12},         {ZSTD_c_minMatch, 6},
    {ZSTD_c_targetLength, 2},     {ZSTD_c_literalCompressionMode, ZSTD_ps_enable}};

struct FreeZstdParams {
  void operator()(ZSTD_CCtx_params* params) const { ZSTD_freeCCtxParams(params); }
};

std::unique_ptr<ZSTD_CCtx_params, FreeZstdParams> MakeZstdParams() {
  std::unique_ptr<ZSTD_CCtx_params, FreeZstdParams> params(ZSTD_createCCtxParams());
  HAVEN_CHECK(params != nullptr);
  for (const ZstdChoice& choice : kZstdChoices) {
    const size_t set = ZSTD_CCtxParams_setParameter(params.get(), choice.parameter, choice.value);
    HAVEN_CHECK(ZSTD_isError(set) == 0) << "parameter=" << choice.parameter;
  }
  return params;
}

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
  std::vector<uint64_t> zstd_memory;
  ZSTD_CCtx* zstd = nullptr;
};

Compressor::Compressor() : state_(std::make_unique<State>()) {
  const auto params = MakeZstdParams();
  state_->zstd_memory = Workspace(ZSTD_estimateCCtxSize_usingCCtxParams(params.get()));
  state_->zstd = ZSTD_initStaticCCtx(state_->zstd_memory.data(), Bytes(state_->zstd_memory));
  HAVEN_CHECK(state_->zstd != nullptr);
  const size_t set = ZSTD_CCtx_setParametersUsingCCtxParams(state_->zstd, params.get());
  HAVEN_CHECK(ZSTD_isError(set) == 0);
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
      const size_t bytes =
          ZSTD_compress2(state_->zstd, to.data(), to.size(), from.data(), from.size());
      return ZSTD_isError(bytes) != 0 ? 0 : bytes;
    }
    case Compression::kNone:
      break;
  }
  HAVEN_CHECK(false) << "method=" << static_cast<int>(method);
  return 0;
}

size_t Compressor::memory_bytes() const {
  return sizeof(State) + Bytes(state_->lz4) + Bytes(state_->zstd_memory);
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
