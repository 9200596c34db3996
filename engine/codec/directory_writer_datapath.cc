// SPDX-License-Identifier: Apache-2.0
#include "engine/base/check.h"
#include "engine/codec/directory_writer.h"

namespace haven {
namespace {

// A record of each page fits: tag and gap, flags, every copy of one block, both masks, all runs.
static_assert(6 + 1 + (1 + kMaxPageBlocks * 11) + 16 + (2 + kMaxByteRuns * 4) <=
              kMaxCodedRecordBytes);
constexpr uint64_t kLongGap = 63;

}  // namespace

void DirectoryWriter::Begin(unsigned block_shift) {
  block_shift_ = block_shift;
  used_ = 0;
  records_ = 0;
}

void DirectoryWriter::PutByte(unsigned value) { bytes_[used_++] = static_cast<std::byte>(value); }

void DirectoryWriter::PutVarint(uint32_t value) {
  for (; value >= 0x80; value >>= 7) PutByte((value & 0x7f) | 0x80);
  PutByte(value);
}

void DirectoryWriter::PutMask(uint64_t mask) {
  for (unsigned at = 0; at < kPageBytes >> block_shift_; at += 8) {
    PutByte(static_cast<unsigned>(mask >> at & 0xff));
  }
}

void DirectoryWriter::Append(const CodedPage& page) {
  if (records_ == 0) first_gfn_ = static_cast<uint32_t>(next_gfn_ = page.gfn);
  HAVEN_CHECK_LT(records_, kMaxCodedPages);
  HAVEN_CHECK_GE(page.gfn, next_gfn_);
  const uint64_t gap = page.gfn - next_gfn_;
  const unsigned kind = static_cast<unsigned>(page.kind);
  if (gap < kLongGap) {
    PutByte(static_cast<unsigned>(gap << 2) | kind);
  } else {
    PutByte(static_cast<unsigned>(kLongGap << 2) | kind);
    PutVarint(static_cast<uint32_t>(gap - kLongGap));
  }
  next_gfn_ = uint64_t{page.gfn} + 1;
  ++records_;
  if (page.kind == PageKind::kPatch) PutPatch(page);
  if (page.kind != PageKind::kSame) return;
  if (page.same_in_frame) {
    PutVarint(page.same_index << 1 | 1);
  } else {
    PutVarint(uint32_t{page.same_domain} << 1);
    PutVarint(page.same_gfn);
  }
}

void DirectoryWriter::PutPatch(const CodedPage& page) {
  PutByte((page.copy_count != 0 ? unsigned{kPatchCopies} : 0) |
          (page.zeros != 0 ? unsigned{kPatchZeros} : 0) |
          (page.blocks != 0 ? unsigned{kPatchBlocks} : 0) |
          (page.run_count != 0 ? unsigned{kPatchRuns} : 0));
  if (page.copy_count != 0) PutByte(page.copy_count);
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    PutByte(copy.first);
    PutByte(copy.blocks);
    PutByte(copy.from);
    PutVarint(copy.domain);
    PutVarint(copy.gfn);
  }
  if (page.zeros != 0) PutMask(page.zeros);
  if (page.blocks != 0) PutMask(page.blocks);
  if (page.run_count != 0) PutVarint(page.run_count);
  uint32_t end = 0;
  for (const ByteRun& run : std::span(page.runs).first(page.run_count)) {
    PutVarint(run.at - end);
    PutVarint(run.bytes - 1u);
    end = uint32_t{run.at} + run.bytes;
  }
}

}  // namespace haven
