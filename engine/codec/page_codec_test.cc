// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/page_codec.h"

#include <algorithm>
#include <thread>

#include "engine/codec/codec_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

CodecSettings Settings(bool runs, bool sharing, Compression compression = Compression::kNone) {
  CodecSettings settings;
  settings.byte_runs = runs;
  settings.sharing = sharing;
  settings.compression = compression;
  return settings;
}

void FillPage(std::byte* page, uint64_t seed) { Random(seed).Fill({page, kPageBytes}); }

TEST(PageCodec, FirstVersionOfIncompressiblePagesGoesPlain) {
  TestPair pair({10}, {.cache_pages = 10});
  for (uint32_t gfn = 0; gfn < 3; ++gfn) FillPage(pair.Write(0, gfn), gfn + 1);
  EXPECT_EQ(pair.Replicate(Settings(true, true, Compression::kZstd)), 3 * kPageBytes);
  EXPECT_TRUE(pair.Equal());
}

// A write that restores the old value.
TEST(PageCodec, UnchangedPageSendsNothing) {
  for (const bool hashes : {false, true}) {
    TestPair pair({10}, {.cache_pages = hashes ? 0u : 10u, .hashes = hashes});
    FillPage(pair.Write(0, 3), 1);
    pair.Replicate(Settings(true, true));
    pair.Touch(0, 3);
    EXPECT_EQ(pair.Encode(Settings(true, true)).size(), 0u);
    EXPECT_EQ(pair.worker.counters().unchanged, 1u);
  }
}

TEST(PageCodec, OneChangedByteSendsOneBlockOrOneRun) {
  for (const unsigned shift : {6u, 7u, 8u}) {
    TestPair pair({10}, {.block_shift = shift, .cache_pages = 10});
    FillPage(pair.Write(0, 3), 1);
    pair.Replicate(Settings(false, false));
    pair.Write(0, 3)[1000] ^= std::byte{1};
    const size_t mask_bytes = (kPageBytes >> shift) / 8;
    EXPECT_EQ(pair.Replicate(Settings(false, false)),
              kCodedHeaderBytes + 2 + mask_bytes + (size_t{1} << shift));
    EXPECT_TRUE(pair.Equal());
    pair.Write(0, 3)[1000] ^= std::byte{1};
    // Tag, parts, number, gap of two bytes, length, the byte.
    EXPECT_EQ(pair.Replicate(Settings(true, false)), kCodedHeaderBytes + 7);
    EXPECT_TRUE(pair.Equal());
  }
}

TEST(PageCodec, HashesFindTheChangedBlock) {
  for (const unsigned shift : {6u, 7u, 8u}) {
    TestPair pair({10}, {.block_shift = shift, .hashes = true});
    FillPage(pair.Write(0, 3), 1);
    pair.Replicate(Settings(true, true));
    pair.Write(0, 3)[4095] ^= std::byte{1};
    pair.Replicate(Settings(true, true));
    EXPECT_TRUE(pair.Equal());
    EXPECT_EQ(pair.worker.counters().changed_blocks, (kPageBytes >> shift) + 1);
    EXPECT_EQ(pair.worker.counters().patched, 1u);
  }
}

TEST(PageCodec, PagesThatLeaveTheCacheKeepTheirHashes) {
  TestPair pair({300}, {.cache_pages = 8, .hashes = true});
  for (uint32_t gfn = 0; gfn < 8; ++gfn) FillPage(pair.Write(0, gfn), gfn + 1);
  pair.Replicate(Settings(true, false));
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t gfn = 100; gfn < 108; ++gfn) FillPage(pair.Write(0, gfn), gfn + round);
    pair.Replicate(Settings(true, false));
  }
  pair.worker.ResetCounters();
  for (uint32_t gfn = 0; gfn < 8; ++gfn) pair.Write(0, gfn)[gfn] ^= std::byte{1};
  pair.Replicate(Settings(true, false));
  EXPECT_EQ(pair.worker.counters().changed_blocks, 8u);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, ZeroPageIsARecordWithoutBytes) {
  TestPair pair({10}, {.cache_pages = 10});
  FillPage(pair.Write(0, 3), 1);
  FillPage(pair.Write(0, 4), 2);
  pair.Replicate(Settings(true, true));
  std::memset(pair.Write(0, 3), 0, kPageBytes);
  pair.Write(0, 4)[0] ^= std::byte{1};
  EXPECT_LT(pair.Replicate(Settings(true, true)), kCodedHeaderBytes + 10);
  EXPECT_EQ(pair.worker.counters().zero, 1u);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, WholePageIsSharedAcrossGuests) {
  TestPair pair({10, 10}, {.cache_pages = 20});
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  FillPage(pair.Write(1, 7), 1);
  EXPECT_LT(pair.Replicate(Settings(true, true)), kCodedHeaderBytes + 5);
  EXPECT_EQ(pair.worker.counters().same, 1u);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, BlocksAreSharedAtOtherPlaces) {
  TestPair pair({10}, {.cache_pages = 10});
  FillPage(pair.Write(0, 3), 1);
  FillPage(pair.Write(0, 5), 2);
  pair.Replicate(Settings(true, true));
  std::memcpy(pair.Write(0, 5) + 640, pair.primary[0]->Page(3) + 1280, 1024);
  EXPECT_LT(pair.Replicate(Settings(true, true)), kCodedHeaderBytes + 16);
  EXPECT_EQ(pair.worker.counters().shared_blocks, 16u);
  EXPECT_TRUE(pair.Equal());
}

// The write breaks the share; the other owner stays as it is.
TEST(PageCodec, WriteToASharedPageChangesItsOwnerOnly) {
  TestPair pair({10}, {.cache_pages = 10});
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  FillPage(pair.Write(0, 4), 1);
  pair.Replicate(Settings(true, true));
  ASSERT_EQ(pair.worker.counters().same, 1u);
  pair.Write(0, 3)[5] ^= std::byte{1};
  EXPECT_LT(pair.Replicate(Settings(true, true)), kCodedHeaderBytes + 10);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, PageThatTheEpochWritesIsNoSource) {
  TestPair pair({10}, {.cache_pages = 10});
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  // The replica's version of page 3 equals what page 7 becomes, and is written in the same epoch.
  FillPage(pair.Write(0, 7), 1);
  pair.Write(0, 3)[0] ^= std::byte{1};
  const std::vector<TestFrame> frames = pair.Encode(Settings(true, true));
  EXPECT_EQ(pair.worker.counters().same + pair.worker.counters().shared_blocks, 0u);
  EXPECT_TRUE(pair.Check(frames).ok());
}

TEST(PageCodec, ForcedCollisionsDoNotShare) {
  TestPair pair({10}, {.cache_pages = 10});
  pair.codec->set_block_name([](const HashKey&, const std::byte*, size_t) { return uint64_t{7}; });
  for (uint32_t gfn = 0; gfn < 4; ++gfn) {
    FillPage(pair.Write(0, gfn), gfn + 1);
    pair.Replicate(Settings(true, true));
  }
  EXPECT_EQ(pair.worker.counters().same + pair.worker.counters().shared_blocks, 0u);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, EqualRawPagesOfOneFrameGoOnce) {
  TestPair pair({10}, {.cache_pages = 0});
  for (uint32_t gfn = 2; gfn < 6; ++gfn) FillPage(pair.Write(0, gfn), 9);
  EXPECT_LT(pair.Replicate(Settings(true, true)), kPageBytes + kCodedHeaderBytes + 10);
  EXPECT_EQ(pair.worker.counters().same, 3u);
  EXPECT_TRUE(pair.Equal());
}

TEST(PageCodec, FailureDropsTheBaselinesOfTheEpoch) {
  for (const bool hashes : {false, true}) {
    TestPair pair({10}, {.cache_pages = hashes ? 0u : 10u, .hashes = hashes});
    FillPage(pair.Write(0, 3), 1);
    FillPage(pair.Write(0, 4), 2);
    pair.Replicate(Settings(true, true));
    pair.Write(0, 3)[0] ^= std::byte{1};
    pair.Encode(Settings(true, true));
    pair.Fail();  // Never applied.
    pair.Write(0, 4)[0] ^= std::byte{1};
    pair.worker.ResetCounters();
    pair.Replicate(Settings(true, true));
    EXPECT_EQ(pair.worker.counters().patched, 1u);
    EXPECT_EQ(pair.worker.counters().raw, 1u);
    EXPECT_TRUE(pair.Equal());
  }
}

TEST(PageCodec, PagesSentWithoutTheCodecAreForgotten) {
  TestPair pair({10}, {.cache_pages = 10, .hashes = true});
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  const CodecRun run{.domain = 0, .first = 3, .pages = 1};
  pair.codec->Forget({&run, 1});
  pair.Touch(0, 3);
  pair.Replicate(Settings(true, true));
  EXPECT_EQ(pair.worker.counters().unchanged, 0u);
  pair.codec->Reset();
  pair.Touch(0, 3);
  pair.Replicate(Settings(true, true));
  EXPECT_EQ(pair.worker.counters().unchanged, 0u);
}

// As if all blocks had the same hash.
void CollidingHash(const HashKey&, const std::byte*, unsigned shift, uint64_t* hashes) {
  std::fill_n(hashes, kPageBytes >> shift, uint64_t{7});
}

TEST(PageCodec, VerifyCountsWhatHashesMissAndSendsIt) {
  for (const bool hashes : {false, true}) {
    for (const bool collide : {false, true}) {
      TestPair pair({10}, {.cache_pages = 10, .hashes = hashes, .verify = true});
      if (collide) pair.codec->set_page_hash(CollidingHash);
      FillPage(pair.Write(0, 3), 1);
      pair.Replicate(Settings(true, true));
      EXPECT_EQ(pair.worker.counters().missed_blocks, 0u);
      pair.Write(0, 3)[100] ^= std::byte{1};
      pair.Write(0, 3)[3000] ^= std::byte{1};
      pair.Replicate(Settings(true, true));
      EXPECT_EQ(pair.worker.counters().missed_blocks, collide ? 2u : 0u);
      EXPECT_TRUE(pair.Equal());
    }
  }
}

// What `verify` is for: without the bytes nobody sees it.
TEST(PageCodec, AHashThatCollidesLosesTheChange) {
  TestPair pair({10}, {.hashes = true});
  pair.codec->set_page_hash(CollidingHash);
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  pair.Write(0, 3)[100] ^= std::byte{1};
  EXPECT_EQ(pair.Replicate(Settings(true, true)), 0u);
  EXPECT_FALSE(pair.Equal());
}

// Whoever has not asked for hashes does not rely on them.
TEST(PageCodec, VerifyAloneFindsNoChangesByHashes) {
  TestPair pair({10}, {.cache_pages = 0, .hashes = false, .verify = true});
  pair.codec->set_page_hash(CollidingHash);
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  pair.Write(0, 3)[100] ^= std::byte{1};
  EXPECT_GE(pair.Replicate(Settings(true, true)), kPageBytes);
  EXPECT_TRUE(pair.Equal());
  EXPECT_EQ(pair.worker.counters().unchanged, 0u);
  EXPECT_EQ(pair.worker.counters().missed_blocks, 0u);
}

TEST(PageCodec, HashesOfAnotherSessionSayNothing) {
  TestPair pair({10}, {.hashes = true});
  FillPage(pair.Write(0, 3), 1);
  pair.Replicate(Settings(true, true));
  pair.Touch(0, 3);
  EXPECT_EQ(pair.Replicate(Settings(true, true)), 0u);
  pair.codec->BeginSession(TestKey(2));
  pair.Touch(0, 3);
  EXPECT_GE(pair.Replicate(Settings(true, true)), kPageBytes);
}

TEST(PageCodec, SharingRestsWhereItFindsNothing) {
  for (const bool rests : {false, true}) {
    TestPair pair({300}, {.cache_pages = 300});
    CodecSettings settings = Settings(true, true);
    settings.sharing_rests = rests;
    uint64_t content = 0;
    // The first epoch says nothing, the second has more new blocks than it takes.
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (uint32_t gfn = 0; gfn < 100; ++gfn) FillPage(pair.Write(0, gfn), ++content);
      pair.Replicate(settings);
    }
    const auto copy = [&pair](uint32_t to) {
      std::memcpy(pair.Write(0, to), pair.primary[0]->Page(0), kPageBytes);
    };
    copy(200);
    pair.Replicate(settings);
    EXPECT_EQ(pair.worker.counters().same, rests ? 0u : 1u);
    EXPECT_TRUE(pair.Equal());
    // After the rest it looks again.
    for (uint32_t epoch = 0; epoch < SharingGate::kFirstRest; ++epoch) pair.Replicate(settings);
    copy(201);
    pair.Replicate(settings);
    EXPECT_EQ(pair.worker.counters().same, rests ? 1u : 2u);
    EXPECT_TRUE(pair.Equal());
  }
}

TEST(PageCodec, MemoryIsKnownBeforeItIsTaken) {
  const CodecOptions cases[] = {
      {.page_counts = {5000, 100}, .cache_pages = 300, .max_epoch_pages = 1000},
      {.page_counts = {70}, .block_shift = 7, .hashes = true, .max_epoch_pages = 70},
      {.page_counts = {64, 64}, .block_shift = 8, .cache_pages = 1, .verify = true}};
  for (const CodecOptions& options : cases) {
    const PageCodec::Memory before = PageCodec::MemoryFor(options);
    const PageCodec::Memory taken = PageCodec(options).memory();
    EXPECT_EQ(before.cache_bytes, taken.cache_bytes);
    EXPECT_EQ(before.hash_bytes, taken.hash_bytes);
    EXPECT_EQ(before.index_bytes, taken.index_bytes);
    EXPECT_EQ(before.epoch_bytes, taken.epoch_bytes);
    EXPECT_EQ(before.epoch_bytes, options.max_epoch_pages * sizeof(CodecRun));
  }
}

TEST(PageCodec, AWorkersMemoryHoldsTheCompressorsContexts) {
  const Compressor compressor;
  EXPECT_GT(compressor.memory_bytes(), size_t{100} << 10);
  EXPECT_GT(CodecWorker().memory_bytes(),
            compressor.memory_bytes() + kMaxLiteralBytes + 2 * kMaxDirectoryBytes);
}

TEST(PageCodec, HashMemoryPerBlockSize) {
  const uint64_t pages = 4096;
  for (const unsigned shift : {6u, 7u, 8u}) {
    const CodecOptions options{.page_counts = {pages}, .block_shift = shift, .hashes = true};
    const PageCodec codec(options);
    EXPECT_EQ(codec.memory().hash_bytes, pages * ((kPageBytes >> shift) * 8 + 1));
    EXPECT_EQ(codec.memory().index_bytes, 0u);
  }
}

TEST(PageCodec, FramesMayBeEncodedAtTheSameTime) {
  TestPair pair({256}, {.cache_pages = 256});
  for (uint32_t gfn = 0; gfn < 128; ++gfn) FillPage(pair.Write(0, gfn), gfn % 7);
  pair.Replicate(Settings(true, true));
  const CodecRun run{.domain = 0, .first = 0, .pages = 256};
  pair.codec->BeginEpoch(Settings(true, true), {&run, 1});
  std::array<CodecWorker, 2> workers;
  std::array<std::vector<std::byte>, 4> out;
  const auto encode = [&](size_t thread) {
    for (size_t frame = thread; frame < 4; frame += 2) {
      std::vector<CodecPage> pages;
      for (uint32_t i = 0; i < 64; ++i) {
        const uint32_t gfn = static_cast<uint32_t>(frame) * 64 + i;
        pages.push_back({gfn, pair.primary[0]->Page(gfn)});
      }
      out[frame].resize(64 * kPageBytes);
      pair.codec->EncodeFrame(workers[thread], 0, pages, out[frame]);
    }
  };
  std::thread other(encode, 1);
  encode(0);
  other.join();
  pair.codec->Acknowledge();
  EXPECT_EQ(workers[0].counters().pages + workers[1].counters().pages, 256u);
  EXPECT_EQ(workers[0].counters().unchanged + workers[1].counters().unchanged, 128u);
}

struct Mode {
  unsigned shift;
  uint32_t cache_pages;
  bool hashes;
  bool verify;
};

class PageCodecModelTest : public ::testing::TestWithParam<Mode> {};

// What guests do to a page.
void Change(Random& random, TestPair& pair, uint16_t domain, uint32_t gfn) {
  std::byte* page = pair.Write(domain, gfn);
  switch (random.Below(8)) {
    case 0:
      std::memset(page, 0, kPageBytes);
      break;
    case 1:
      FillPage(page, random.Below(5));
      break;
    case 2: {
      const size_t at = random.Below(kPageBytes);
      std::memset(page + at, static_cast<int>(random.Below(3)), kPageBytes - at);
      break;
    }
    case 3: {
      const CodecTestGuest& other = *pair.primary[random.Below(pair.primary.size())];
      const size_t from = random.Below(other.bytes().size() / kPageBytes) * kPageBytes;
      std::memmove(page, other.bytes().data() + from, kPageBytes);
      break;
    }
    case 4: {
      const size_t blocks = random.Below(8) + 1;
      const size_t from = random.Below(64 - blocks) * 64;
      std::memmove(page + random.Below(64 - blocks) * 64,
                   pair.primary[0]->Page(random.Below(20)) + from, blocks * 64);
      break;
    }
    case 5:
      break;
    default:
      for (uint64_t i = random.Below(40); i > 0; --i) {
        page[random.Below(kPageBytes)] = static_cast<std::byte>(random.Next());
      }
  }
}

// Whatever is written and whatever fails, each good epoch makes the replica equal, in whatever
// order and however often its frames are applied.
TEST_P(PageCodecModelTest, ReplicaEqualsAfterEachEpoch) {
  const Mode mode = GetParam();
  for (uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    TestPair pair({70, 150}, {.block_shift = mode.shift,
                              .cache_pages = mode.cache_pages,
                              .hashes = mode.hashes,
                              .verify = mode.verify});
    pair.frame_pages = 1 + random.Below(kMaxCodedPages);
    for (int epoch = 0; epoch < 40; ++epoch) {
      for (uint64_t i = random.Below(60); i > 0; --i) {
        const uint16_t domain = static_cast<uint16_t>(random.Below(2));
        Change(random, pair, domain, static_cast<uint32_t>(random.Below(domain == 0 ? 70 : 150)));
      }
      const CodecSettings settings{
          .changed_blocks = random.Chance(9, 10),
          .byte_runs = random.Chance(1, 2),
          .sharing = random.Chance(2, 3),
          .compression = static_cast<Compression>(random.Below(kCompressions)),
          .packing = random.Chance(1, 2)};
      std::vector<TestFrame> frames = pair.Encode(settings);
      ASSERT_TRUE(pair.Check(frames).ok()) << pair.Check(frames);
      const bool lost = random.Chance(1, 6);
      if (!lost || random.Chance(1, 2)) {
        // Cut off, then again from the start, in another order.
        for (const TestFrame& frame : frames) {
          if (random.Chance(1, 2)) pair.Apply(frame, static_cast<uint32_t>(random.Below(64)));
        }
        for (size_t i = frames.size(); i > 1; --i)
          std::swap(frames[i - 1], frames[random.Below(i)]);
        for (const TestFrame& frame : frames) pair.Apply(frame);
        ASSERT_TRUE(pair.Equal()) << "epoch " << epoch;
      }
      if (lost) {
        pair.Fail();
      } else {
        pair.Acknowledge();
      }
    }
    EXPECT_EQ(pair.worker.counters().missed_blocks, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, PageCodecModelTest,
                         ::testing::Values(Mode{6, 220, false, false}, Mode{7, 220, false, false},
                                           Mode{8, 220, false, false}, Mode{6, 20, false, false},
                                           Mode{6, 20, true, false}, Mode{7, 0, true, false},
                                           Mode{8, 20, true, false}, Mode{6, 220, false, true},
                                           Mode{6, 20, false, true}, Mode{7, 20, true, true},
                                           Mode{6, 0, false, true}, Mode{6, 0, false, false}));

TEST(PageCodecDeathTest, EpochsDoNotOverlap) {
  TestPair pair({10}, {.cache_pages = 10});
  pair.codec->BeginEpoch({}, {});
  EXPECT_DEATH(pair.codec->BeginEpoch({}, {}), "open_");
}

}  // namespace
}  // namespace haven
