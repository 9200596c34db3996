// SPDX-License-Identifier: Apache-2.0
//
// A session of two guests and one epoch of it, built chunk by chunk and given to the validator.
#ifndef HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_TESTING_H_
#define HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/replica/chunk_writer.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/testing.h"

namespace haven {

inline constexpr SessionId kSession = 7;
inline constexpr LinkNumber kLink = 3;
inline constexpr Epoch kEpoch = 9;
inline constexpr uint32_t kMaxState = 100;

// Two guests; the first has a hole at 40 and ends at 100, the second has 1000 frames.
class EpochValidatorTest : public ::testing::Test {
 protected:
  using Fill = std::function<void(ChunkWriter&)>;

  EpochValidatorTest()
      : first_(MakeGuest(100, {40})),
        second_(MakeGuest(1000)),
        validator_(std::vector<EpochTarget>{{.memory = &first_, .max_state_bytes = kMaxState},
                                            {.memory = &second_, .max_state_bytes = kMaxState}}) {}

  void Begin(EpochKind kind) {
    kind_ = kind;
    sent_ = EpochTotals();
    validator_.Begin(kSession, kLink, kEpoch, kind);
  }

  // The next chunk of the epoch.
  std::vector<std::byte> Chunk(const Fill& fill) {
    std::vector<std::byte> slot(kMinSlotBytes, std::byte{0xee});
    ChunkWriter writer(slot);
    fill(writer);
    sent_.Add(writer.Finish(Identity(sent_.chunk_count)));
    return slot;
  }

  absl::Status Add(const Fill& fill) {
    const uint32_t index = sent_.chunk_count;
    return validator_.AddChunk(Chunk(fill), index);
  }

  // The error of a chunk that must be refused.
  std::string Refusal(const Fill& fill) {
    const absl::Status status = Add(fill);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("epoch 9 chunk "));
    return std::string(status.message());
  }

  ChunkIdentity Identity(uint32_t index) const {
    return {.session = kSession, .link = kLink, .epoch = kEpoch, .kind = kind_, .index = index};
  }

  CommitRecord Record() const {
    return {.session = kSession,
            .link = kLink,
            .kind = kind_,
            .epoch = kEpoch,
            .base_epoch = kEpoch - 1,
            .domain_count = 2,
            .placement = {},
            .totals = sent_};
  }

  static void Raw(ChunkWriter& writer, uint16_t domain, Gfn gfn, uint32_t pages) {
    const std::span<std::byte> body = writer.AppendRawRun(domain, gfn, pages);
    ASSERT_EQ(body.size(), pages * kPageBytes);
    std::fill(body.begin(), body.end(), std::byte{1});
  }
  static void Zero(ChunkWriter& writer, uint16_t domain, Gfn gfn, uint32_t pages) {
    ASSERT_TRUE(writer.AppendZeroRun(domain, gfn, pages));
  }
  static void State(ChunkWriter& writer, uint16_t domain, uint32_t offset, uint32_t total,
                    std::string_view fragment) {
    ASSERT_TRUE(writer.AppendState(domain, offset, total, BytesOf(fragment)));
  }
  static void BothStates(ChunkWriter& writer) {
    State(writer, 0, 0, 3, "abc");
    State(writer, 1, 0, 4, "defg");
  }

  GuestMemory first_;
  GuestMemory second_;
  EpochValidator validator_;
  EpochKind kind_ = EpochKind::kSync;
  EpochTotals sent_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_EPOCH_VALIDATOR_TESTING_H_
