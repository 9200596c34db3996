// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <array>
#include <bit>

#include "engine/codec/block_kernels.h"

namespace haven {
namespace {

// Up to so many lines are looked at one by one; more take longer than the whole page.
constexpr int kFewLines = 20;

// Unaligned loads of 16, 32 and 64 bytes. The casts are the intrinsics' own convention.
__m128i Load128(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
}
[[gnu::target("avx2")]] __m256i Load256(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from));
}
[[gnu::target("avx512f,avx512bw")]] __m512i Load512(const std::byte* from) {
  return _mm512_loadu_si512(from);
}

void ChangedBytesSse2(const std::byte* before, const std::byte* after, uint64_t lines,
                      uint64_t* masks) {
  for (; lines != 0; lines &= lines - 1) {
    const size_t line = static_cast<size_t>(std::countr_zero(lines)) * kLineBytes;
    uint64_t changed = 0;
    for (size_t at = 0; at < kLineBytes; at += 16) {
      const __m128i equal = _mm_cmpeq_epi8(Load128(before + line + at), Load128(after + line + at));
      changed |= static_cast<uint64_t>(static_cast<uint16_t>(~_mm_movemask_epi8(equal))) << at;
    }
    *masks++ = changed;
  }
}

uint64_t ChangedLinesSse2(const std::byte* before, const std::byte* after) {
  uint64_t changed = 0;
  for (size_t line = 0; line < kPageLines; ++line) {
    __m128i differ = _mm_setzero_si128();
    for (size_t at = line * kLineBytes; at < (line + 1) * kLineBytes; at += 16) {
      differ = _mm_or_si128(differ, _mm_xor_si128(Load128(before + at), Load128(after + at)));
    }
    const int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(differ, _mm_setzero_si128()));
    changed |= static_cast<uint64_t>(equal != 0xffff) << line;
  }
  return changed;
}

bool NonzeroSse2(const std::byte* line) {
  const __m128i any = _mm_or_si128(_mm_or_si128(Load128(line), Load128(line + 16)),
                                   _mm_or_si128(Load128(line + 32), Load128(line + 48)));
  return _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff;
}

uint64_t NonzeroLinesSse2(const std::byte* page, uint64_t lines) {
  uint64_t nonzero = 0;
  if (std::popcount(lines) <= kFewLines) {
    for (; lines != 0; lines &= lines - 1) {
      const int line = std::countr_zero(lines);
      nonzero |= static_cast<uint64_t>(NonzeroSse2(page + line * kLineBytes)) << line;
    }
    return nonzero;
  }
  for (size_t line = 0; line < kPageLines; ++line) {
    nonzero |= static_cast<uint64_t>(NonzeroSse2(page + line * kLineBytes)) << line;
  }
  return nonzero & lines;
}

uint64_t CopyPageSse2(const std::byte* from, std::byte* to) {
  uint64_t nonzero = 0;
  for (size_t line = 0; line < kPageLines; ++line) {
    __m128i any = _mm_setzero_si128();
    for (size_t at = line * kLineBytes; at < (line + 1) * kLineBytes; at += 16) {
      const __m128i bytes = Load128(from + at);
      _mm_storeu_si128(reinterpret_cast<__m128i_u*>(to + at), bytes);
      any = _mm_or_si128(any, bytes);
    }
    const int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128()));
    nonzero |= static_cast<uint64_t>(equal != 0xffff) << line;
  }
  return nonzero;
}

// What a line without literals is filled with: without a branch, as the masks are hard to foresee.
alignas(kLineBytes) constexpr std::array<std::byte, kLineBytes> kZeroLine{};

void FillLinesSse2(uint64_t lines, const std::byte* literals, std::byte* page) {
  for (size_t line = 0; line < kPageLines; ++line, lines >>= 1, page += kLineBytes) {
    const std::byte* from = (lines & 1) != 0 ? literals : kZeroLine.data();
    for (size_t at = 0; at < kLineBytes; at += 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i_u*>(page + at), Load128(from + at));
    }
    literals += (lines & 1) * kLineBytes;
  }
}

[[gnu::target("avx2")]] void FillLinesAvx2(uint64_t lines, const std::byte* literals,
                                           std::byte* page) {
  for (size_t line = 0; line < kPageLines; ++line, lines >>= 1, page += kLineBytes) {
    const std::byte* from = (lines & 1) != 0 ? literals : kZeroLine.data();
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(page), Load256(from));
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(page + 32), Load256(from + 32));
    literals += (lines & 1) * kLineBytes;
  }
}

[[gnu::target("avx2")]] uint64_t CopyPageAvx2(const std::byte* from, std::byte* to) {
  uint64_t nonzero = 0;
  for (size_t line = 0; line < kPageLines; ++line, from += kLineBytes, to += kLineBytes) {
    const __m256i low = Load256(from);
    const __m256i high = Load256(from + 32);
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to + 32), high);
    const __m256i any = _mm256_or_si256(low, high);
    nonzero |= static_cast<uint64_t>(_mm256_testz_si256(any, any) == 0) << line;
  }
  return nonzero;
}

[[gnu::target("avx2")]] void ChangedBytesAvx2(const std::byte* before, const std::byte* after,
                                              uint64_t lines, uint64_t* masks) {
  for (; lines != 0; lines &= lines - 1) {
    const size_t line = static_cast<size_t>(std::countr_zero(lines)) * kLineBytes;
    uint64_t changed = 0;
    for (size_t at = 0; at < kLineBytes; at += 32) {
      const __m256i equal =
          _mm256_cmpeq_epi8(Load256(before + line + at), Load256(after + line + at));
      changed |= static_cast<uint64_t>(~static_cast<uint32_t>(_mm256_movemask_epi8(equal))) << at;
    }
    *masks++ = changed;
  }
}

[[gnu::target("avx2")]] uint64_t ChangedLinesAvx2(const std::byte* before, const std::byte* after) {
  uint64_t changed = 0;
  for (size_t line = 0; line < kPageLines; ++line) {
    const size_t at = line * kLineBytes;
    const __m256i differ =
        _mm256_or_si256(_mm256_xor_si256(Load256(before + at), Load256(after + at)),
                        _mm256_xor_si256(Load256(before + at + 32), Load256(after + at + 32)));
    changed |= static_cast<uint64_t>(_mm256_testz_si256(differ, differ) == 0) << line;
  }
  return changed;
}

[[gnu::target("avx2")]] bool NonzeroAvx2(const std::byte* line) {
  const __m256i any = _mm256_or_si256(Load256(line), Load256(line + 32));
  return _mm256_testz_si256(any, any) == 0;
}

[[gnu::target("avx2")]] uint64_t NonzeroLinesAvx2(const std::byte* page, uint64_t lines) {
  uint64_t nonzero = 0;
  if (std::popcount(lines) <= kFewLines) {
    for (; lines != 0; lines &= lines - 1) {
      const int line = std::countr_zero(lines);
      nonzero |= static_cast<uint64_t>(NonzeroAvx2(page + line * kLineBytes)) << line;
    }
    return nonzero;
  }
  for (size_t line = 0; line < kPageLines; ++line) {
    nonzero |= static_cast<uint64_t>(NonzeroAvx2(page + line * kLineBytes)) << line;
  }
  return nonzero & lines;
}

[[gnu::target("avx512f,avx512bw")]] void ChangedBytesAvx512(const std::byte* before,
                                                            const std::byte* after, uint64_t lines,
                                                            uint64_t* masks) {
  for (; lines != 0; lines &= lines - 1) {
    const size_t line = static_cast<size_t>(std::countr_zero(lines)) * kLineBytes;
    *masks++ = _mm512_cmpneq_epi8_mask(Load512(before + line), Load512(after + line));
  }
}

constexpr BlockKernels kSse2 = {"sse2",           ChangedLinesSse2, ChangedBytesSse2,
                                NonzeroLinesSse2, CopyPageSse2,     FillLinesSse2};
constexpr BlockKernels kAvx2 = {"avx2",           ChangedLinesAvx2, ChangedBytesAvx2,
                                NonzeroLinesAvx2, CopyPageAvx2,     FillLinesAvx2};
// Going through whole pages is bound by the loads, where wider registers gain nothing; only the
// mask of bytes does in one instruction what takes four.
constexpr BlockKernels kAvx512 = {"avx512",         ChangedLinesAvx2, ChangedBytesAvx512,
                                  NonzeroLinesAvx2, CopyPageAvx2,     FillLinesAvx2};

// The best first. What the compiler reports includes that the system saves the registers.
struct Variants {
  Variants() {
    const bool avx2 = __builtin_cpu_supports("avx2");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
      list[count++] = &kAvx512;
    }
    if (avx2) list[count++] = &kAvx2;
    list[count++] = &kSse2;
  }
  std::array<const BlockKernels*, 3> list{};
  size_t count = 0;
};

}  // namespace

std::span<const BlockKernels* const> AvailableKernels() {
  static const Variants variants;
  return std::span(variants.list).first(variants.count);
}

const BlockKernels& BestKernels() { return *AvailableKernels().front(); }

}  // namespace haven
