// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <array>
#include <bit>
#include <cstring>

#include "engine/base/byte_order.h"
#include "engine/codec/word_packing.h"

namespace haven {
namespace {

constexpr size_t kWordBytes = 4;
constexpr size_t kStretchWords = kPackedStretch / kWordBytes;
static_assert(kStretchWords == 16, "a bit of a mask for each");

// Without branches: which words are zero is hard to foresee.
size_t PackWords(const std::byte* from, size_t stretches, std::byte* masks, std::byte* to) {
  const std::byte* const begin = to;
  for (; stretches > 0; --stretches, masks += sizeof(uint16_t)) {
    uint32_t mask = 0;
    for (size_t i = 0; i < kStretchWords; ++i, from += kWordBytes) {
      const uint32_t word = LoadLe32(from);
      const uint32_t used = word != 0 ? 1 : 0;
      StoreLe32(to, word);
      to += used * kWordBytes;
      mask |= used << i;
    }
    StoreLe16(masks, static_cast<uint16_t>(mask));
  }
  return static_cast<size_t>(to - begin);
}

void UnpackWords(const std::byte* masks, const std::byte* words, size_t stretches, std::byte* to) {
  for (; stretches > 0; --stretches, masks += sizeof(uint16_t)) {
    const uint32_t mask = LoadLe16(masks);
    for (size_t i = 0; i < kStretchWords; ++i, to += kWordBytes) {
      const uint32_t used = mask >> i & 1;
      StoreLe32(to, LoadLe32(words) & (0 - used));
      words += used * kWordBytes;
    }
  }
}

[[gnu::target("avx512f")]] size_t PackAvx512(const std::byte* from, size_t stretches,
                                             std::byte* masks, std::byte* to) {
  const std::byte* const begin = to;
  for (; stretches > 0; --stretches, from += kPackedStretch, masks += sizeof(uint16_t)) {
    const __m512i words = _mm512_loadu_si512(from);
    const __mmask16 mask = _mm512_test_epi32_mask(words, words);
    // A store of the words alone takes many times as long on some processors.
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(mask, words));
    to += static_cast<size_t>(std::popcount(static_cast<uint16_t>(mask))) * kWordBytes;
    StoreLe16(masks, static_cast<uint16_t>(mask));
  }
  return static_cast<size_t>(to - begin);
}

[[gnu::target("avx512f")]] void UnpackAvx512(const std::byte* masks, const std::byte* words,
                                             size_t stretches, std::byte* to) {
  for (; stretches > 0; --stretches, to += kPackedStretch, masks += sizeof(uint16_t)) {
    const uint16_t mask = LoadLe16(masks);
    _mm512_storeu_si512(to, _mm512_maskz_expand_epi32(mask, _mm512_loadu_si512(words)));
    words += static_cast<size_t>(std::popcount(mask)) * kWordBytes;
  }
}

constexpr WordPacker kWords = {"words", PackWords, UnpackWords};
constexpr WordPacker kAvx512 = {"avx512", PackAvx512, UnpackAvx512};

// The best first. What the compiler reports includes that the system saves the registers.
struct Variants {
  Variants() {
    if (__builtin_cpu_supports("avx512f")) list[count++] = &kAvx512;
    list[count++] = &kWords;
  }
  std::array<const WordPacker*, 2> list{};
  size_t count = 0;
};

// Bytes of the words that masks stand for.
size_t WordBytes(std::span<const std::byte> masks) {
  size_t words = 0;
  for (; masks.size() >= sizeof(uint64_t); masks = masks.subspan(sizeof(uint64_t))) {
    words += static_cast<size_t>(std::popcount(LoadLe64(masks.data())));
  }
  for (const std::byte part : masks) {
    words += static_cast<size_t>(std::popcount(std::to_integer<uint8_t>(part)));
  }
  return words * kWordBytes;
}

}  // namespace

std::span<const WordPacker* const> AvailablePackers() {
  static const Variants variants;
  return std::span(variants.list).first(variants.count);
}

const WordPacker& BestPacker() { return *AvailablePackers().front(); }

std::span<std::byte> PackLiterals(std::span<std::byte> literals, const WordPacker& packer) {
  const size_t stretches = literals.size() / kPackedStretch;
  const size_t mask_bytes = stretches * sizeof(uint16_t);
  std::byte* const masks = literals.data() - mask_bytes;
  const size_t word_bytes = packer.pack(literals.data(), stretches, masks, literals.data());
  const std::span<const std::byte> tail = literals.subspan(stretches * kPackedStretch);
  std::memmove(literals.data() + word_bytes, tail.data(), tail.size());
  return {masks, mask_bytes + word_bytes + tail.size()};
}

bool UnpackLiterals(std::span<const std::byte> packed, std::span<std::byte> literals,
                    const WordPacker& packer) {
  const size_t stretches = literals.size() / kPackedStretch;
  const size_t mask_bytes = stretches * sizeof(uint16_t);
  const std::span<std::byte> tail = literals.subspan(stretches * kPackedStretch);
  if (packed.size() < mask_bytes + tail.size()) return false;
  const size_t word_bytes = packed.size() - mask_bytes - tail.size();
  if (WordBytes(packed.first(mask_bytes)) != word_bytes) return false;
  packer.unpack(packed.data(), packed.data() + mask_bytes, stretches, literals.data());
  std::memcpy(tail.data(), packed.data() + mask_bytes + word_bytes, tail.size());
  return true;
}

}  // namespace haven
