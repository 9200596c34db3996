// SPDX-License-Identifier: Apache-2.0
//
// Coded pages from the journal to the replicas' memory.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/base/random.h"
#include "engine/codec/codec_testing.h"
#include "engine/replica/features.h"
#include "engine/replica/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0x99;
constexpr LinkNumber kLink = 1;
constexpr uint64_t kPages[] = {300, 64};

// The parameter is the number of worker threads.
class ApplierCodedTest : public ::testing::TestWithParam<unsigned> {
 protected:
  ApplierCodedTest() { backup_.reader.BeginLink(kLink); }

  std::unique_ptr<Applier> MakeApplier(bool recheck_crc = true, bool coded_pages = true) {
    absl::StatusOr<std::unique_ptr<Applier>> applier =
        Applier::Create({.region = backup_.region,
                         .geometry = backup_.geometry,
                         .replicas = backup_.domains(),
                         .threads = GetParam(),
                         .recheck_crc = recheck_crc,
                         .coded_pages = coded_pages});
    HAVEN_CHECK_OK(applier);
    return *std::move(applier);
  }

  absl::StatusOr<std::optional<VerifiedEpoch>> Write(std::vector<TestRun> runs) {
    const Epoch base = backup_.reader.committed_epoch();
    TestEpoch epoch{.epoch = base + 1, .base = base};
    epoch.runs = std::move(runs);
    epoch.states = {std::vector<std::byte>(1), std::vector<std::byte>(1)};
    backup_.journal.Write(epoch, kLink, 2, backup_.ledger.next());
    return backup_.reader.OnImmediate(CommitImmediate(base + 1));
  }

  VerifiedEpoch Commit(std::vector<TestRun> runs) {
    auto result = Write(std::move(runs));
    HAVEN_CHECK_OK(result);
    return **result;
  }

  static TestRun Coded(uint16_t domain, const std::vector<CodedPage>& pages,
                       std::span<const std::byte> literals = {}) {
    return {.domain = domain,
            .first = pages.front().gfn,
            .pages = static_cast<uint32_t>(pages.size()),
            .coded = MakeCodedBody(6, pages, literals)};
  }

  std::span<std::byte> Page(uint16_t domain, Gfn gfn) {
    return {backup_.replicas[domain]->memory().Page(gfn), kPageBytes};
  }
  bool AllBytes(uint16_t domain, Gfn gfn, size_t from, size_t to, int value) {
    return std::ranges::all_of(Page(domain, gfn).subspan(from, to - from), [&](std::byte byte) {
      return byte == static_cast<std::byte>(value);
    });
  }

  void ExpectPoisoned(Applier& applier, const std::string& text) {
    const absl::Status status = applier.Drain();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), HasSubstr("changed after the acknowledgement"));
  }

  TestBackup backup_{
      {.slot_bytes = kMinSlotBytes, .ring_slots = 16, .pool_slots = 4, .extent_slots = 2},
      {{.pages = kPages[0], .special = {{10, 12}}}, {.pages = kPages[1], .special = {{63, 64}}}},
      kSession,
      kNoEpoch,
      kCodecFeatures};
};

TEST_P(ApplierCodedTest, EachKindOfRecordMakesItsPage) {
  const std::unique_ptr<Applier> applier = MakeApplier();
  applier->Submit(Commit({FilledRun(0, 20, 5, 1), FilledRun(1, 3, 1, 70)}));
  ASSERT_TRUE(applier->Drain().ok());

  CodedPage patch = MakePage(PageKind::kPatch, 24);
  patch.copy_count = 1;
  patch.copies[0] = {.first = 2, .blocks = 3, .from = 1, .domain = 1, .gfn = 3};
  patch.zeros = uint64_t{1} << 10;
  patch.blocks = uint64_t{1} << 12;
  CodedPage again = MakePage(PageKind::kSame, 23);
  again.same_in_frame = true;
  again.same_index = 2;
  std::vector<std::byte> literals(kPageBytes, std::byte{9});
  literals.insert(literals.end(), kLineBytes, std::byte{8});
  applier->Submit(Commit({Coded(0,
                                {SamePage(20, 1, 3), MakePage(PageKind::kZero, 21),
                                 MakePage(PageKind::kRaw, 22), again, patch},
                                literals),
                          FilledRun(0, 40, 2, 33)}));
  ASSERT_TRUE(applier->Drain().ok());
  EXPECT_TRUE(AllBytes(0, 20, 0, kPageBytes, 70));
  EXPECT_TRUE(AllBytes(0, 21, 0, kPageBytes, 0));
  EXPECT_TRUE(AllBytes(0, 22, 0, kPageBytes, 9));
  EXPECT_TRUE(AllBytes(0, 23, 0, kPageBytes, 9));
  EXPECT_TRUE(AllBytes(0, 24, 0, 128, 5));
  EXPECT_TRUE(AllBytes(0, 24, 128, 320, 70));
  EXPECT_TRUE(AllBytes(0, 24, 320, 640, 5));
  EXPECT_TRUE(AllBytes(0, 24, 640, 704, 0));
  EXPECT_TRUE(AllBytes(0, 24, 704, 768, 5));
  EXPECT_TRUE(AllBytes(0, 24, 768, 832, 8));
  EXPECT_TRUE(AllBytes(0, 24, 832, kPageBytes, 5));
  EXPECT_TRUE(AllBytes(0, 41, 0, kPageBytes, 34));
}

// Guests, codec, journal, applier: the replica follows, whatever is shared and compressed.
TEST_P(ApplierCodedTest, ARealEncodersEpochsArriveWhole) {
  for (const Compression compression :
       {Compression::kNone, Compression::kLz4, Compression::kZstd}) {
    SCOPED_TRACE(CompressionName(compression));
    const std::unique_ptr<Applier> applier = MakeApplier();
    TestPair pair({kPages[0], kPages[1]}, {.cache_pages = 100, .hashes = true});
    pair.frame_pages = 12;
    Random random(static_cast<uint64_t>(compression) + 1);
    for (int round = 0; round < 15; ++round) {
      for (int i = 0; i < 40; ++i) {
        const uint16_t domain = static_cast<uint16_t>(random.Below(2));
        const uint32_t gfn = static_cast<uint32_t>(random.Below(kPages[domain] - 1));
        if (domain == 0 && (gfn == 10 || gfn == 11)) continue;
        std::byte* page = pair.Write(domain, gfn);
        if (random.Chance(1, 4)) Random(random.Below(6)).Fill({page, kPageBytes});
        page[random.Below(kPageBytes)] ^= std::byte{1};
      }
      std::vector<TestRun> runs;
      for (const TestFrame& frame : pair.Encode({.changed_blocks = true,
                                    .byte_runs = true,
                                    .sharing = true,
                                    .compression = compression})) {
        if (!frame.plain) {
          runs.push_back({.domain = frame.domain,
                          .first = frame.first_gfn,
                          .pages = frame.records,
                          .coded = frame.body});
          continue;
        }
        for (size_t i = 0; i < frame.plain_gfns.size(); ++i) {
          const auto page = frame.body.begin() + static_cast<ptrdiff_t>(i * kPageBytes);
          runs.push_back({.domain = frame.domain,
                          .first = frame.plain_gfns[i],
                          .pages = 1,
                          .bytes = {page, page + ptrdiff_t{kPageBytes}}});
        }
      }
      const VerifiedEpoch epoch = Commit(std::move(runs));
      applier->Submit(epoch);
      ASSERT_TRUE(applier->Drain().ok());
      const std::optional<AppliedEpoch> finished = applier->PopFinished();
      ASSERT_TRUE(finished.has_value());
      backup_.ledger.Release(finished->epoch);
      pair.Acknowledge();
      for (uint16_t domain = 0; domain < 2; ++domain) {
        for (Gfn gfn = 0; gfn < kPages[domain]; ++gfn) {
          if (!backup_.replicas[domain]->memory().IsRam(gfn)) continue;
          ASSERT_EQ(
              std::memcmp(Page(domain, gfn).data(), pair.primary[domain]->Page(gfn), kPageBytes), 0)
              << "domain " << domain << " gfn " << gfn;
        }
      }
    }
    // The next method starts from an empty guest.
    applier->Submit(Commit({ZeroRun(0, 0, 10), ZeroRun(0, 12, 288), ZeroRun(1, 0, 63)}));
    ASSERT_TRUE(applier->Drain().ok());
    backup_.ledger.Release(applier->PopFinished()->epoch);
  }
}

TEST_P(ApplierCodedTest, WhatTheFeaturesDoNotAllowIsNotCommitted) {
  TestBackup plain(backup_.geometry, {{.pages = 100}}, kSession);
  plain.reader.BeginLink(kLink);
  TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
  epoch.runs = {Coded(0, {MakePage(PageKind::kZero, 3)})};
  epoch.states = {std::vector<std::byte>(1)};
  plain.journal.Write(epoch, kLink, 1, 0);
  const auto committed = plain.reader.OnImmediate(CommitImmediate(1));
  EXPECT_EQ(committed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(committed.status().message()), HasSubstr("no coded pages"));
  EXPECT_EQ(plain.reader.committed_epoch(), kNoEpoch);
}

TEST_P(ApplierCodedTest, ASourceThatTheEpochWritesIsNotCommitted) {
  const auto committed = Write({Coded(0, {SamePage(20, 0, 30)}), FilledRun(0, 30, 1, 1)});
  EXPECT_EQ(committed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(committed.status().message()), HasSubstr("no coded page refers"));
}

// After the acknowledgement: whatever is put in the place of what was verified.
TEST_P(ApplierCodedTest, ForgedBodiesTouchNothingButRam) {
  const std::vector<CodedPage> verified = {SamePage(20, 1, 3), SamePage(21, 1, 4)};
  const struct {
    const char* text;
    std::vector<CodedPage> pages;
  } forgeries[] = {
      {"same-as is 63, must be RAM of domain 1", {SamePage(20, 1, 63), SamePage(21, 1, 4)}},
      {"same-as is 3, must be RAM of domain 9", {SamePage(20, 9, 3), SamePage(21, 1, 4)}},
      {"same-as is 11, must be RAM of domain 0", {SamePage(20, 0, 11), SamePage(21, 1, 4)}},
  };
  for (const auto& forgery : forgeries) {
    const std::unique_ptr<Applier> applier = MakeApplier(/*recheck_crc=*/false);
    std::ranges::fill(Page(0, 10), std::byte{0xee});
    const VerifiedEpoch epoch = Commit({Coded(0, verified)});
    const std::vector<std::byte> forged = MakeCodedBody(6, forgery.pages, {});
    ASSERT_EQ(forged.size(), MakeCodedBody(6, verified, {}).size());
    std::ranges::copy(forged, backup_.journal.ChunkSlot(epoch.record, 0)
                                  .subspan(kChunkHeaderBytes + kFrameHeaderBytes)
                                  .begin());
    applier->Submit(epoch);
    ExpectPoisoned(*applier, forgery.text);
    backup_.ledger.Release(epoch.epoch());
    EXPECT_TRUE(AllBytes(0, 10, 0, kPageBytes, 0xee));
  }
}

TEST_P(ApplierCodedTest, AnyOtherBytesPoisonAtMost) {
  Random random(GetParam() + 1);
  for (int round = 0; round < 200; ++round) {
    const std::unique_ptr<Applier> applier = MakeApplier(/*recheck_crc=*/round % 2 == 0);
    CodedPage patch = MakePage(PageKind::kPatch, 25);
    patch.copy_count = 1;
    patch.copies[0] = {.first = 2, .blocks = 3, .from = 1, .domain = 1, .gfn = 3};
    patch.zeros = uint64_t{1} << 10;
    patch.blocks = uint64_t{1} << 12;
    const VerifiedEpoch epoch = Commit(
        {Coded(0, {SamePage(20, 1, 3), patch}, std::vector<std::byte>(kLineBytes, std::byte{8}))});
    const std::span<std::byte> slot = backup_.journal.ChunkSlot(epoch.record, 0);
    std::ranges::fill(Page(0, 10), std::byte{0xee});
    for (uint64_t i = 1 + random.Below(3); i > 0; --i) {
      slot[kChunkHeaderBytes + random.Below(120)] = static_cast<std::byte>(random.Next());
    }
    applier->Submit(epoch);
    const absl::Status drained = applier->Drain();
    EXPECT_TRUE(drained.ok() || absl::IsDataLoss(drained)) << drained;
    backup_.ledger.Release(epoch.epoch());
    EXPECT_TRUE(AllBytes(0, 10, 0, kPageBytes, 0xee));
  }
}

TEST_P(ApplierCodedTest, AnApplierWithoutTheCodecRefusesThem) {
  const std::unique_ptr<Applier> applier = MakeApplier(true, /*coded_pages=*/false);
  applier->Submit(Commit({Coded(0, {SamePage(20, 1, 3)})}));
  ExpectPoisoned(*applier, "no coded pages were agreed on");
}

INSTANTIATE_TEST_SUITE_P(Threads, ApplierCodedTest, ::testing::Values(0u, 2u));

}  // namespace
}  // namespace haven
