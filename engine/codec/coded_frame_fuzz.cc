// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte of choice. 0: one byte, the number of records; four bytes, the first frame
// number; then the body of a coded frame. Else: one of a few good frames, by the choice, with
// changes of three bytes each, two for the place and one for the value there. What the decoder
// accepts is applied to a small guest, and must keep the rules that ApplyCodedPage() relies on.
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/codec/codec_testing.h"

namespace haven {
namespace {

constexpr uint64_t kPages = 16;

void CheckPatch(const CodedPage& page, unsigned shift) {
  const size_t page_blocks = kPageBytes >> shift;
  uint64_t covered = page.zeros;
  HAVEN_CHECK_EQ(page.blocks & covered, 0u);
  covered |= page.blocks;
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    HAVEN_CHECK_LE(size_t{copy.from} + copy.blocks, page_blocks);
    HAVEN_CHECK_LE(size_t{copy.first} + copy.blocks, page_blocks);
    for (size_t i = copy.first; i < size_t{copy.first} + copy.blocks; ++i) {
      HAVEN_CHECK((covered >> i & 1) == 0);
      covered |= uint64_t{1} << i;
    }
  }
  HAVEN_CHECK_EQ(covered & ~AllBlocks(shift), 0u);
  size_t literals = static_cast<size_t>(__builtin_popcountll(page.blocks)) << shift;
  for (const ByteRun& run : std::span(page.runs).first(page.run_count)) {
    HAVEN_CHECK_LE(size_t{run.at} + run.bytes, kPageBytes);
    literals += run.bytes;
  }
  HAVEN_CHECK_EQ(literals, page.literals.size());
}

// True if the sources are pages of the guest, as the caller of ApplyCodedPage() makes sure.
bool SourcesExist(const CodedPage& page) {
  if (page.kind == PageKind::kSame && !page.same_in_frame) {
    return page.same_domain == 0 && page.same_gfn < kPages;
  }
  if (page.kind != PageKind::kPatch) return true;
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    if (copy.domain != 0 || copy.gfn >= kPages) return false;
  }
  return true;
}

// Frames with records of every kind, by every compression.
std::vector<TestFrame> GoodFrames() {
  TestPair pair({64}, {.cache_pages = 64});
  Random random(3);
  for (uint32_t gfn = 0; gfn < 40; ++gfn) random.Fill({pair.Write(0, gfn), kPageBytes});
  pair.Replicate({});
  for (uint32_t gfn = 10; gfn < 14; ++gfn) pair.Write(0, gfn)[gfn] ^= std::byte{1};
  std::memset(pair.Write(0, 14), 0, kPageBytes);
  std::memset(pair.Write(0, 15) + 512, 0, 1024);
  random.Fill({pair.Write(0, 16) + 256, 128});
  std::memcpy(pair.Write(0, 17), pair.primary[0]->Page(2), kPageBytes);
  std::memcpy(pair.Write(0, 18) + 640, pair.primary[0]->Page(3) + 1280, 1024);
  for (const uint32_t gfn : {50, 51}) std::memset(pair.Write(0, gfn), 7, kPageBytes);
  std::vector<TestFrame> frames;
  for (uint8_t method = 0; method < kCompressions; ++method) {
    for (const bool packing : {false, true}) {
      for (TestFrame& frame :
           pair.Encode({.compression = static_cast<Compression>(method), .packing = packing})) {
        frames.push_back(std::move(frame));
      }
      // The changes of the pages above are gone with their baselines: what follows has raw pages
      // too.
      pair.Fail();
    }
  }
  return frames;
}

void RunOne(std::span<const std::byte> input) {
  static CodedFrameDecoder decoder;
  static CodedPage page;
  static std::vector<std::byte> memory(kPages * kPageBytes, std::byte{1});
  static const GuestMemory guest({memory.data()}, {~uint64_t{0}}, kPages);
  const GuestMemory* const guests = &guest;
  static const std::vector<TestFrame> good = GoodFrames();
  ByteReader reader(input);
  const uint8_t choice = reader.GetU8();
  std::vector<std::byte> body;
  uint32_t count = 0;
  uint32_t first = 0;
  if (choice == 0) {
    count = reader.GetU8();
    first = reader.GetU32();
    const std::span<const std::byte> bytes = reader.GetBytes(reader.remaining());
    body.assign(bytes.begin(), bytes.end());
  } else {
    const TestFrame& frame = good[choice % good.size()];
    count = frame.records;
    first = frame.first_gfn;
    body = frame.body;
    while (reader.remaining() >= 3 && !body.empty()) {
      const size_t at = reader.GetU16() % body.size();
      body[at] = static_cast<std::byte>(reader.GetU8());
    }
  }
  decoder.Open({first, count, body});
  std::vector<std::byte> target(kPageBytes);
  uint32_t records = 0;
  uint64_t next = first;
  while (decoder.Next(&page)) {
    ++records;
    HAVEN_CHECK_GE(page.gfn, next);
    next = uint64_t{page.gfn} + 1;
    if (page.kind == PageKind::kPatch) CheckPatch(page, decoder.block_shift());
    if (SourcesExist(page))
      ApplyCodedPage(page, decoder.block_shift(), {&guests, 1}, target.data());
  }
  if (decoder.status().ok()) HAVEN_CHECK_EQ(records, count);
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
