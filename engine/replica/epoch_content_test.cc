// SPDX-License-Identifier: Apache-2.0
//
// What the frames of an epoch may be, over all its chunks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/random.h"
#include "engine/replica/epoch_validator_testing.h"

namespace haven {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_F(EpochValidatorTest, KeepsTheStatesWhereTheCallerWants) {
  std::vector<std::byte> first(kMaxState);
  std::vector<std::byte> second(kMaxState);
  const std::span<std::byte> buffers[] = {first, second};
  Begin(EpochKind::kCheckpoint);
  validator_.Begin(kSession, kLink, kEpoch, kind_, buffers);
  ASSERT_TRUE(Add([](ChunkWriter& w) { State(w, 0, 0, 5, "abc"); }).ok());
  ASSERT_TRUE(Add([](ChunkWriter& w) {
                State(w, 0, 3, 5, "de");
                State(w, 1, 0, 4, "fghi");
              }).ok());
  ASSERT_TRUE(validator_.Finish(Record()).ok());
  EXPECT_TRUE(
      std::ranges::equal(std::span(first).first(validator_.state_bytes(0)), BytesOf("abcde")));
  EXPECT_TRUE(
      std::ranges::equal(std::span(second).first(validator_.state_bytes(1)), BytesOf("fghi")));
  EXPECT_EQ(first[5], std::byte{0});
}

TEST_F(EpochValidatorTest, BuffersOfOneEpochAreNotWrittenByTheNext) {
  std::vector<std::byte> buffer(2 * kMaxState);
  const std::span<std::byte> buffers[] = {std::span(buffer).first(kMaxState),
                                          std::span(buffer).subspan(kMaxState)};
  validator_.Begin(kSession, kLink, kEpoch, EpochKind::kCheckpoint, buffers);
  Begin(EpochKind::kCheckpoint);
  ASSERT_TRUE(Add(BothStates).ok());
  EXPECT_TRUE(std::ranges::all_of(buffer, [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(EpochValidatorTest, RunsAscendWithoutOverlapOverAllChunks) {
  const std::vector<std::pair<Fill, std::string>> cases = {
      {[](ChunkWriter& w) { Zero(w, 0, 10, 1); }, "first frame number is 10, must be"},
      {[](ChunkWriter& w) { Zero(w, 0, 14, 2); }, "frame 0: run: first frame number is 14,"},
      {[](ChunkWriter& w) { Raw(w, 0, 0, 1); }, "not below 15"},
      {[](ChunkWriter& w) {
         Zero(w, 1, 0, 1);
         Zero(w, 0, 50, 1);
       },
       "frame 1: run: domain is 0, must be ascending, not below 1"},
      {[](ChunkWriter& w) {
         Zero(w, 1, 5, 5);
         Raw(w, 1, 9, 1);
       },
       "frame 1: run: first frame number is 9,"},
  };
  for (const auto& [fill, error] : cases) {
    Begin(EpochKind::kSync);
    ASSERT_TRUE(Add([](ChunkWriter& w) { Raw(w, 0, 10, 5); }).ok());
    EXPECT_THAT(Refusal(fill), HasSubstr(error));
  }
}

TEST_F(EpochValidatorTest, EveryTargetIsRamOfAKnownDomain) {
  const std::vector<std::pair<Fill, std::string>> cases = {
      {[](ChunkWriter& w) { Zero(w, 0, 40, 1); }, "frame number is 40, must be RAM of domain 0"},
      {[](ChunkWriter& w) { Raw(w, 0, 38, 5); }, "frame number is 40, must be RAM of domain 0"},
      {[](ChunkWriter& w) { Zero(w, 0, 41, 60); }, "frame number is 100, must be RAM of domain 0"},
      {[](ChunkWriter& w) { Raw(w, 0, 100, 1); }, "frame number is 100,"},
      {[](ChunkWriter& w) { Zero(w, 1, 1000, UINT32_MAX); }, "must be RAM of domain 1"},
      {[](ChunkWriter& w) { Zero(w, 1, uint64_t{1} << 60, 1); },
       "frame number is 1152921504606846976,"},
      {[](ChunkWriter& w) { Zero(w, 2, 0, 1); }, "domain is 2, must be below 2"},
      {[](ChunkWriter& w) { Zero(w, UINT16_MAX, 0, 1); }, "domain is 65535, must be below 2"},
  };
  for (const auto& [fill, error] : cases) {
    Begin(EpochKind::kSync);
    EXPECT_THAT(Refusal(fill), HasSubstr(error));
  }
}

TEST_F(EpochValidatorTest, StatesComeOnceInOrderCompleteAndWithinTheirLimit) {
  const std::vector<std::pair<Fill, std::string>> cases = {
      {[](ChunkWriter& w) { State(w, 1, 0, 1, "a"); }, "domain is 1, must be the next"},
      {[](ChunkWriter& w) { State(w, 2, 0, 1, "a"); }, "domain is 2, must be the next"},
      {[](ChunkWriter& w) { State(w, 0, 1, 3, "bc"); }, "offset is 1, must be the next byte's, 0"},
      {[](ChunkWriter& w) { State(w, 0, 0, kMaxState + 1, "a"); },
       "total is 101, must be at most 100"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 4, "ab");
         State(w, 0, 2, 5, "cde");
       },
       "frame 1: state: total is 5, must be as in its first fragment, 4"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 4, "ab");
         State(w, 0, 1, 4, "b");
       },
       "offset is 1, must be the next byte's, 2"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 4, "ab");
         State(w, 0, 3, 4, "d");
       },
       "offset is 3, must be the next byte's, 2"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 4, "ab");
         State(w, 1, 0, 1, "d");
       },
       "domain is 1, must be the next whose state is incomplete, 0"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 1, "a");
         State(w, 0, 0, 1, "a");
       },
       "domain is 0, must be the next whose state is incomplete, 1"},
      {[](ChunkWriter& w) {
         BothStates(w);
         State(w, 1, 0, 1, "a");
       },
       "every state is complete already"},
      {[](ChunkWriter& w) {
         State(w, 0, 0, 1, "a");
         Zero(w, 1, 0, 1);
       },
       "frame 1: run: type is 2, must be 3: runs precede all states"},
      {[](ChunkWriter& w) {
         BothStates(w);
         Raw(w, 1, 0, 1);
       },
       "frame 2: run: type is 1,"},
  };
  for (const auto& [fill, error] : cases) {
    Begin(EpochKind::kCheckpoint);
    EXPECT_THAT(Refusal(fill), HasSubstr(error));
  }
}

TEST_F(EpochValidatorTest, AStateMayBeAsLargeAsItsLimit) {
  Begin(EpochKind::kCheckpoint);
  const std::string largest(kMaxState, 's');
  ASSERT_TRUE(Add([&](ChunkWriter& w) {
                State(w, 0, 0, kMaxState, largest);
                State(w, 1, 0, kMaxState, largest);
              }).ok());
  EXPECT_TRUE(validator_.Finish(Record()).ok());
  EXPECT_EQ(validator_.state_bytes(1), kMaxState);
}

TEST_F(EpochValidatorTest, ASyncEpochHasNoState) {
  Begin(EpochKind::kSync);
  EXPECT_THAT(Refusal([](ChunkWriter& w) { State(w, 0, 0, 1, "a"); }),
              HasSubstr("state: type is 3, must be 1 or 2: a sync epoch has no state"));
}

TEST_F(EpochValidatorTest, ACheckpointHasEveryStateWhole) {
  const std::vector<std::pair<Fill, std::string>> cases = {
      {[](ChunkWriter& w) { Zero(w, 0, 0, 1); },
       "bytes of domain 0's state is 0, must be complete"},
      {[](ChunkWriter& w) { State(w, 0, 0, 3, "ab"); }, "bytes of domain 0's state is 2,"},
      {[](ChunkWriter& w) { State(w, 0, 0, 3, "abc"); }, "bytes of domain 1's state is 0,"},
  };
  for (const auto& [fill, error] : cases) {
    Begin(EpochKind::kCheckpoint);
    ASSERT_TRUE(Add(fill).ok());
    const absl::Status status = validator_.Finish(Record());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("epoch 9: "), HasSubstr(error)));
  }
}

// A random epoch is accepted; with one frame swapped or doubled it is not.
TEST_F(EpochValidatorTest, RandomEpochsInOrderAreAcceptedAndShuffledOnesAreNot) {
  struct Run {
    uint16_t domain;
    Gfn first;
    uint32_t pages;
  };
  Random random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<Run> runs;
    for (Gfn gfn = random.Below(3); gfn < 40;) {
      const uint32_t pages = static_cast<uint32_t>(1 + random.Below(40 - gfn));
      runs.push_back({0, gfn, pages});
      gfn += pages + random.Below(5);
    }
    for (Gfn gfn = random.Below(900); gfn < 1000;) {
      const uint32_t pages = static_cast<uint32_t>(1 + random.Below(std::min<Gfn>(5, 1000 - gfn)));
      runs.push_back({1, gfn, pages});
      gfn += pages + random.Below(9);
    }
    const bool shuffle = random.Chance(1, 2);
    if (shuffle) {
      const size_t at = random.Below(runs.size());
      const size_t other = random.Below(runs.size());
      if (at == other) {
        runs.insert(runs.begin() + static_cast<ptrdiff_t>(at), runs[at]);
      } else {
        std::swap(runs[at], runs[other]);
      }
    }
    Begin(EpochKind::kSync);
    absl::Status status;
    for (size_t at = 0; at < runs.size() && status.ok();) {
      const size_t end = std::min(runs.size(), at + 1 + random.Below(4));
      status = Add([&](ChunkWriter& w) {
        for (size_t r = at; r < end; ++r) Zero(w, runs[r].domain, runs[r].first, runs[r].pages);
      });
      at = end;
    }
    EXPECT_EQ(status.ok(), !shuffle) << status;
    if (status.ok()) {
      EXPECT_TRUE(validator_.Finish(Record()).ok());
    }
  }
}

}  // namespace
}  // namespace haven
