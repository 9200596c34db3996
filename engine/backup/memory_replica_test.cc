// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/memory_replica.h"

#include <algorithm>
#include <array>
#include <memory>

#include "absl/status/status.h"
#include "engine/replica/layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

std::unique_ptr<MemoryReplica> Make(MemoryReplica::Options options) {
  absl::StatusOr<std::unique_ptr<MemoryReplica>> replica = MemoryReplica::Create(options);
  EXPECT_TRUE(replica.ok()) << replica.status();
  return *std::move(replica);
}

TEST(MemoryReplicaTest, MapsItsPagesAndNoMore) {
  const std::unique_ptr<MemoryReplica> replica =
      Make({.pages = GuestMemory::kChunkPages + 3, .special = {{2, 4}, {70, 70}, {100, 101}}});
  const GuestMemory& memory = replica->memory();
  EXPECT_EQ(memory.page_count(), GuestMemory::kChunkPages + 3);
  for (const Gfn gfn : {0, 1, 4, 70, 99, 101}) EXPECT_TRUE(memory.IsRam(gfn)) << gfn;
  EXPECT_TRUE(memory.IsRam(GuestMemory::kChunkPages + 2));
  for (const Gfn gfn : {2, 3, 100}) EXPECT_FALSE(memory.IsRam(gfn)) << gfn;
  EXPECT_FALSE(memory.IsRam(GuestMemory::kChunkPages + 3));
  EXPECT_EQ(memory.ram_bitmap().back() >> 3, 0u);

  std::fill_n(memory.Page(GuestMemory::kChunkPages + 2), kPageBytes, std::byte{9});
  EXPECT_THAT(replica->bytes().last(kPageBytes), Each(std::byte{9}));
  EXPECT_THAT(replica->bytes().subspan(GuestMemory::kChunkPages * kPageBytes, 2 * kPageBytes),
              Each(std::byte{0}));
}

TEST(MemoryReplicaTest, PrefaultedMemoryIsZero) {
  const std::unique_ptr<MemoryReplica> replica = Make({.pages = 4, .prefault = true});
  EXPECT_THAT(replica->bytes(), Each(std::byte{0}));
}

TEST(MemoryReplicaTest, RefusesImpossibleOptions) {
  const auto code = [](MemoryReplica::Options options) {
    return MemoryReplica::Create(options).status().code();
  };
  EXPECT_EQ(code({.pages = 0}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.pages = kMaxDomainPages + 1}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.pages = 4, .special = {{0, 5}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.pages = 4, .special = {{3, 2}}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.pages = 4, .min_state_bytes = 2, .max_state_bytes = 1}),
            absl::StatusCode::kInvalidArgument);
}

TEST(MemoryReplicaTest, PromotesInOrder) {
  const std::unique_ptr<MemoryReplica> replica =
      Make({.pages = 1, .min_state_bytes = 2, .max_state_bytes = 3});
  const std::array<std::byte, 4> state = {std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8}};
  EXPECT_TRUE(absl::IsInvalidArgument(replica->CheckState(std::span(state).first(1))));
  EXPECT_TRUE(absl::IsInvalidArgument(replica->CheckState(state)));
  EXPECT_TRUE(replica->CheckState(std::span(state).first(3)).ok());

  EXPECT_TRUE(absl::IsInternal(replica->Run()));
  EXPECT_TRUE(absl::IsInternal(replica->Prepare(state)));
  ASSERT_TRUE(replica->Prepare(std::span(state).first(2)).ok());
  EXPECT_EQ(replica->phase(), MemoryReplica::Phase::kPrepared);
  EXPECT_THAT(replica->prepared_state(), ElementsAre(std::byte{5}, std::byte{6}));
  EXPECT_TRUE(absl::IsInternal(replica->Prepare(std::span(state).first(2))));
  ASSERT_TRUE(replica->Run().ok());
  EXPECT_EQ(replica->phase(), MemoryReplica::Phase::kRunning);
  EXPECT_TRUE(absl::IsInternal(replica->Abandon()));
}

TEST(MemoryReplicaTest, AbandonIsFinalAndIdempotent) {
  const std::unique_ptr<MemoryReplica> replica = Make({.pages = 1});
  ASSERT_TRUE(replica->Abandon().ok());
  ASSERT_TRUE(replica->Abandon().ok());
  EXPECT_EQ(replica->phase(), MemoryReplica::Phase::kAbandoned);
  EXPECT_TRUE(absl::IsInternal(replica->Prepare(std::array<std::byte, 1>{})));
}

TEST(MemoryReplicaTest, FailsWhenTold) {
  const std::unique_ptr<MemoryReplica> replica = Make({.pages = 1});
  const std::array<std::byte, 1> state{};
  replica->set_prepare_result(absl::InternalError("no context"));
  EXPECT_EQ(replica->Prepare(state), absl::InternalError("no context"));
  EXPECT_EQ(replica->phase(), MemoryReplica::Phase::kWaiting);
  replica->set_prepare_result(absl::OkStatus());
  ASSERT_TRUE(replica->Prepare(state).ok());
  replica->set_run_result(absl::InternalError("no permission"));
  EXPECT_EQ(replica->Run(), absl::InternalError("no permission"));
  EXPECT_EQ(replica->phase(), MemoryReplica::Phase::kPrepared);
}

}  // namespace
}  // namespace haven
