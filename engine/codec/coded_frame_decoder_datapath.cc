// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/base/byte_order.h"
#include "engine/codec/block_kernels.h"
#include "engine/codec/coded_frame_decoder.h"
#include "engine/codec/word_packing.h"

namespace haven {
namespace {

// The page is made aside: a copy of a page at once spares the processor to read the old one.
void WriteWhole(uint64_t lines, const std::byte* literals, std::byte* target) {
  alignas(kPageBytes) std::array<std::byte, kPageBytes> whole;
  BestKernels().fill_lines(lines, literals, whole.data());
  std::memcpy(target, whole.data(), kPageBytes);
}

}  // namespace

void CodedFrameDecoder::Open(const CodedFrame& frame) {
  frame_ = frame;
  status_ = absl::OkStatus();
  directory_ = literals_ = {};
  compressed_ = packed_ = false;
  index_ = 0;
  next_gfn_ = frame.first_gfn;
  OpenBody(frame);
}

bool CodedFrameDecoder::OpenBody(const CodedFrame& frame) {
  Header header;
  if (!ReadHeader(frame, &header)) return false;
  const std::span<const std::byte> content = frame.body.subspan(header.bytes);
  if (compressed_) return Expand(header, content);
  if (content.size() != header.literal_bytes + header.directory_bytes) {
    return Fail("content bytes", content.size(), "directory bytes + literal bytes");
  }
  // Each byte of the directory is loaded once, and literals are only copied: no need for a copy.
  literals_ = content.first(header.literal_bytes);
  directory_ = content.subspan(header.literal_bytes);
  return true;
}

bool CodedFrameDecoder::ReadHeader(const CodedFrame& frame, Header* header) {
  if (frame.count == 0 || frame.count > kMaxCodedPages) {
    return Fail("count", frame.count, "1 .. 64");
  }
  if (frame.body.size() < kCodedHeaderBytes) {
    return Fail("body bytes", frame.body.size(), "at least 12");
  }
  ByteReader reader(frame.body.first(std::min(frame.body.size(), kPackedHeaderBytes)));
  const uint8_t method = reader.GetU8();
  block_shift_ = reader.GetU8();
  const uint16_t flags = reader.GetU16();
  header->method = static_cast<Compression>(method);
  header->literal_bytes = reader.GetU32();
  header->directory_bytes = reader.GetU32();
  compressed_ = method != 0;
  packed_ = flags == kPackedFlag;
  if (method >= kCompressions) return Fail("compression", method, "0 .. 2");
  if (block_shift_ < kMinBlockShift || block_shift_ > kMaxBlockShift) {
    return Fail("block shift", block_shift_, "6, 7 or 8");
  }
  if (flags != 0 && !(packed_ && compressed_)) {
    return Fail("flags", flags, "0, or 1 with compression");
  }
  if (header->directory_bytes > frame.count * kMaxCodedRecordBytes) {
    return Fail("directory bytes", header->directory_bytes, "at most 4096 a record");
  }
  if (header->literal_bytes > frame.count * kPageBytes) {
    return Fail("literal bytes", header->literal_bytes, "at most 4096 a record");
  }
  header->bytes = kCodedHeaderBytes;
  header->stored_literal_bytes = header->literal_bytes;
  if (!packed_) return true;
  if (frame.body.size() < kPackedHeaderBytes) {
    return Fail("body bytes", frame.body.size(), "at least 16");
  }
  header->bytes = kPackedHeaderBytes;
  header->stored_literal_bytes = reader.GetU32();
  if (header->stored_literal_bytes > MaxPackedBytes(header->literal_bytes)) {
    return Fail("packed literal bytes", header->stored_literal_bytes,
                "at most the literals and a mask for each 64");
  }
  return true;
}

bool CodedFrameDecoder::Expand(const Header& header, std::span<const std::byte> content) {
  const size_t plain_bytes = header.stored_literal_bytes + header.directory_bytes;
  if (content.size() >= plain_bytes) {
    return Fail("compressed bytes", content.size(), "below what they expand to");
  }
  // The libraries may load a byte twice.
  std::memcpy(copy_.data(), content.data(), content.size());
  const std::span<std::byte> plain = std::span(plain_).first(plain_bytes);
  if (!decompressor_.Decompress(header.method, std::span(copy_).first(content.size()), plain)) {
    return Fail("compressed bytes", content.size(), "one block of the stated size");
  }
  literals_ = plain.first(header.stored_literal_bytes);
  directory_ = plain.subspan(header.stored_literal_bytes);
  if (!packed_) return true;
  const std::span<std::byte> unpacked = std::span(unpacked_).first(header.literal_bytes);
  if (!UnpackLiterals(literals_, unpacked)) {
    return Fail("packed literal bytes", literals_.size(), "as many as their masks say");
  }
  literals_ = unpacked;
  return true;
}

bool CodedFrameDecoder::ReadByte(uint8_t* value) {
  if (directory_.empty()) return Fail("directory", 0, "longer");
  *value = LoadU8(directory_.data());
  directory_ = directory_.subspan(1);
  return true;
}

bool CodedFrameDecoder::ReadVarint(uint32_t* value) {
  uint64_t result = 0;
  for (unsigned shift = 0; shift < 35; shift += 7) {
    uint8_t byte = 0;
    if (!ReadByte(&byte)) return false;
    result |= uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) {
      if (result > UINT32_MAX) return Fail("varint", result, "below 2^32");
      *value = static_cast<uint32_t>(result);
      return true;
    }
  }
  return Fail("varint", result, "at most five bytes long");
}

bool CodedFrameDecoder::TakeLiterals(size_t bytes, CodedPage* page) {
  if (bytes > literals_.size()) return Fail("literals", bytes, "within the frame's");
  page->literals = literals_.first(bytes);
  literals_ = literals_.subspan(bytes);
  return true;
}

bool CodedFrameDecoder::Next(CodedPage* page) {
  if (!status_.ok()) return false;
  if (index_ == frame_.count) {
    if (!directory_.empty()) return Fail("directory bytes left", directory_.size(), "0");
    if (!literals_.empty()) return Fail("literal bytes left", literals_.size(), "0");
    return false;
  }
  page->literals = {};
  if (!ReadTag(page)) return false;
  raw_pages_[index_] = nullptr;
  switch (page->kind) {
    case PageKind::kRaw:
      if (!TakeLiterals(kPageBytes, page)) return false;
      raw_pages_[index_] = page->literals.data();
      break;
    case PageKind::kZero:
      break;
    case PageKind::kSame:
      if (!ReadSame(page)) return false;
      break;
    case PageKind::kPatch:
      if (!ReadPatch(page)) return false;
      break;
  }
  ++index_;
  return true;
}

bool CodedFrameDecoder::ReadTag(CodedPage* page) {
  uint8_t tag = 0;
  if (!ReadByte(&tag)) return false;
  page->kind = static_cast<PageKind>(tag & 3);
  uint64_t gap = tag >> 2;
  if (gap == 63) {
    uint32_t more = 0;
    if (!ReadVarint(&more)) return false;
    gap += more;
  }
  if (index_ == 0 && gap != 0) return Fail("gap", gap, "0 in the first record");
  const uint64_t gfn = next_gfn_ + gap;
  if (gfn > UINT32_MAX) return Fail("frame number", gfn, "below 2^32");
  page->gfn = static_cast<uint32_t>(gfn);
  next_gfn_ = gfn + 1;
  return true;
}

bool CodedFrameDecoder::ReadSame(CodedPage* page) {
  uint32_t name = 0;
  if (!ReadVarint(&name)) return false;
  page->same_in_frame = (name & 1) != 0;
  if (page->same_in_frame) {
    page->same_index = name >> 1;
    if (page->same_index >= index_ || raw_pages_[page->same_index] == nullptr) {
      return Fail("same-as index", page->same_index, "that of a raw record before");
    }
    page->literals = {raw_pages_[page->same_index], kPageBytes};
    return true;
  }
  if (name >> 1 > UINT16_MAX) return Fail("same-as domain", name >> 1, "below 65536");
  page->same_domain = static_cast<uint16_t>(name >> 1);
  return ReadVarint(&page->same_gfn);
}

bool CodedFrameDecoder::ReadPatch(CodedPage* page) {
  uint8_t parts = 0;
  if (!ReadByte(&parts)) return false;
  if (parts == 0 || parts > (kPatchCopies | kPatchZeros | kPatchBlocks | kPatchRuns)) {
    return Fail("parts of the patch", parts, "1 .. 15");
  }
  page->copy_count = page->run_count = 0;
  page->zeros = page->blocks = 0;
  uint64_t covered = 0;
  size_t literal_bytes = 0;
  if ((parts & kPatchCopies) != 0 && !ReadCopies(page, &covered)) return false;
  if ((parts & kPatchZeros) != 0 && !ReadMask("zero blocks", &page->zeros, &covered)) return false;
  if ((parts & kPatchBlocks) != 0) {
    if (!ReadMask("changed blocks", &page->blocks, &covered)) return false;
    literal_bytes = static_cast<size_t>(std::popcount(page->blocks)) << block_shift_;
  }
  if ((parts & kPatchRuns) != 0 && !ReadRuns(page, &literal_bytes)) return false;
  return TakeLiterals(literal_bytes, page);
}

bool CodedFrameDecoder::ReadCopies(CodedPage* page, uint64_t* covered) {
  const uint32_t page_blocks = static_cast<uint32_t>(kPageBytes >> block_shift_);
  uint8_t count = 0;
  if (!ReadByte(&count)) return false;
  if (count == 0 || count > page_blocks) return Fail("copies", count, "1 .. blocks of a page");
  uint32_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    BlockCopy& copy = page->copies[i];
    uint32_t domain = 0;
    if (!ReadByte(&copy.first) || !ReadByte(&copy.blocks) || !ReadByte(&copy.from) ||
        !ReadVarint(&domain) || !ReadVarint(&copy.gfn)) {
      return false;
    }
    if (copy.first < next) return Fail("copy's first block", copy.first, "behind the one before");
    if (copy.blocks == 0 || copy.blocks > page_blocks) {
      return Fail("copy's blocks", copy.blocks, "1 .. blocks of a page");
    }
    next = uint32_t{copy.first} + copy.blocks;
    if (next > page_blocks || uint32_t{copy.from} + copy.blocks > page_blocks) {
      return Fail("copy's end", next, "within both pages");
    }
    if (domain > UINT16_MAX) return Fail("copy's domain", domain, "below 65536");
    copy.domain = static_cast<uint16_t>(domain);
    *covered |= (~uint64_t{0} >> (64 - copy.blocks)) << copy.first;
  }
  page->copy_count = count;
  return true;
}

bool CodedFrameDecoder::ReadMask(const char* name, uint64_t* mask, uint64_t* covered) {
  const size_t bytes = (kPageBytes >> block_shift_) / 8;
  if (directory_.size() < bytes) return Fail("directory", directory_.size(), "longer");
  const std::byte* from = directory_.data();
  const uint64_t bits = bytes == 8 ? LoadLe64(from) : bytes == 4 ? LoadLe32(from) : LoadLe16(from);
  directory_ = directory_.subspan(bytes);
  if (bits == 0) return Fail(name, bits, "at least one");
  if ((bits & *covered) != 0) return Fail(name, bits, "apart from the parts before");
  *covered |= bits;
  *mask = bits;
  return true;
}

bool CodedFrameDecoder::ReadRuns(CodedPage* page, size_t* literal_bytes) {
  uint32_t count = 0;
  if (!ReadVarint(&count)) return false;
  if (count == 0 || count > kMaxByteRuns) return Fail("runs", count, "1 .. 512");
  uint64_t next = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t gap = 0;
    uint32_t more = 0;
    if (!ReadVarint(&gap) || !ReadVarint(&more)) return false;
    const uint64_t at = next + gap;
    next = at + more + 1;
    if (next > kPageBytes) return Fail("run's end", next, "within the page");
    page->runs[i] = {.at = static_cast<uint16_t>(at), .bytes = static_cast<uint16_t>(more + 1)};
    *literal_bytes += more + 1;
  }
  page->run_count = count;
  return true;
}

void PrefetchForApply(const CodedPage& page, unsigned shift, const std::byte* target) {
  constexpr uint32_t kLines = 8;
  const auto fetch = [&](size_t at) { __builtin_prefetch(target + at, /*rw=*/1); };
  if (page.kind != PageKind::kPatch || (page.zeros | page.blocks) == AllBlocks(shift)) {
    for (size_t line = 0; line < kLines; ++line) fetch(line * kLineBytes);
    return;
  }
  uint64_t blocks = page.zeros | page.blocks;
  for (uint32_t i = 0; i < kLines && blocks != 0; ++i, blocks &= blocks - 1) {
    fetch(static_cast<size_t>(std::countr_zero(blocks)) << shift);
  }
  const uint32_t runs = std::min(kLines, page.run_count);
  for (const ByteRun& run : std::span(page.runs).first(runs)) fetch(run.at);
}

void ApplyCodedPage(const CodedPage& page, unsigned shift,
                    std::span<const GuestMemory* const> memories, std::byte* target) {
  if (page.kind == PageKind::kZero) {
    std::memset(target, 0, kPageBytes);
    return;
  }
  if (page.kind == PageKind::kRaw || (page.kind == PageKind::kSame && page.same_in_frame)) {
    std::memcpy(target, page.literals.data(), kPageBytes);
    return;
  }
  if (page.kind == PageKind::kSame) {
    std::memmove(target, memories[page.same_domain]->Page(page.same_gfn), kPageBytes);
    return;
  }
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    const std::byte* from = memories[copy.domain]->Page(copy.gfn);
    std::memmove(target + (size_t{copy.first} << shift), from + (size_t{copy.from} << shift),
                 size_t{copy.blocks} << shift);
  }
  const std::byte* from = page.literals.data();
  if ((page.zeros | page.blocks) == AllBlocks(shift)) {
    WriteWhole(BlocksToLines(page.blocks, shift), from, target);
    from += size_t{static_cast<unsigned>(std::popcount(page.blocks))} << shift;
  } else {
    ForEachStretch(page.zeros, shift,
                   [&](size_t at, size_t stretch) { std::memset(target + at, 0, stretch); });
    ForEachStretch(page.blocks, shift, [&](size_t at, size_t stretch) {
      std::memcpy(target + at, from, stretch);
      from += stretch;
    });
  }
  for (const ByteRun& run : std::span(page.runs).first(page.run_count)) {
    std::memcpy(target + run.at, from, run.bytes);
    from += run.bytes;
  }
}

}  // namespace haven
