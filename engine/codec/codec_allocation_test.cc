// SPDX-License-Identifier: Apache-2.0
//
// An epoch is encoded, checked, applied and acknowledged without an allocation.

#include "engine/base/allocations_testing.h"
#include "engine/codec/codec_testing.h"
#include "engine/codec/coded_frame_applier.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

TEST(CodecAllocation, AnEpochAllocatesNothing) {
  CodecTestGuest guest(256);
  CodecTestGuest replica(256);
  const GuestMemory* const memories = &replica.memory();
  PageCodec codec(
      {.page_counts = {256}, .cache_pages = 100, .hashes = true, .max_epoch_pages = 256});
  codec.BeginSession(TestKey());
  CodecWorker worker;
  CodedFrameApplier applier;
  const uint64_t counts[] = {256};
  EpochPageSet pages(counts);
  std::vector<std::byte> out(kMaxCodedPages * kPageBytes);
  std::vector<CodecPage> batch(kMaxCodedPages);
  Random random(1);
  const CodecRun run{.domain = 0, .first = 0, .pages = 256};
  for (int epoch = 0; epoch < 12; ++epoch) {
    for (uint32_t gfn = 0; gfn < 256; ++gfn) {
      for (int i = 0; i < 9; ++i) guest.Page(gfn)[random.Below(kPageBytes)] ^= std::byte{1};
    }
    const size_t before = AllocationCount();
    codec.BeginEpoch(
        {.compression = static_cast<Compression>(epoch % kCompressions), .packing = epoch % 2 == 0},
        {&run, 1});
    pages.Begin();
    for (uint32_t first = 0; first < 256; first += kMaxCodedPages) {
      for (uint32_t i = 0; i < kMaxCodedPages; ++i) batch[i] = {first + i, guest.Page(first + i)};
      const EncodedFrame frame = codec.EncodeFrame(worker, 0, batch, out);
      if (frame.outcome != EncodedFrame::Outcome::kCoded) continue;
      pages.AddWritten(0, first, kMaxCodedPages);
      ASSERT_TRUE(applier
                      .Apply({frame.first_gfn, frame.records,
                              std::span<const std::byte>(out).first(frame.body_bytes)},
                             0, {&memories, 1})
                      .ok());
    }
    if (epoch % 5 == 4) {
      codec.Fail();
    } else {
      codec.Acknowledge();
    }
    EXPECT_EQ(AllocationCount(), before) << "epoch " << epoch;
  }
}

}  // namespace
}  // namespace haven
