// SPDX-License-Identifier: Apache-2.0
//
// Two ends of a link in one process. Two processes: shm_process_test.cc; a peer that lies:
// shm_link_scribble_test.cc.
#include "transport/shm/shm_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>

#include "engine/base/random.h"
#include "transport/shm/deadline.h"
#include "transport/shm/testing/completions.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kRegionBytes = 64 << 10;

class ShmLinkTest : public testing::Test {
 protected:
  ShmLinkTest() { Random(1).Fill(pair_.source.bytes); }

  WriteRequest Write(uint64_t id, uint64_t offset, uint32_t bytes) {
    return {.id = id,
            .local_region = pair_.source.id,
            .local_offset = offset,
            .remote = pair_.journal_remote,
            .remote_offset = offset,
            .bytes = bytes,
            .signaled = true};
  }
  WriteRequest WriteImmediate(uint64_t id, uint32_t immediate) {
    WriteRequest request = Write(id, 0, 0);
    request.has_immediate = true;
    request.immediate = immediate;
    return request;
  }
  absl::Status Post(const WriteRequest& request) { return link().PostWrites({&request, 1}); }

  Link& link() { return *pair_.to_backup; }
  Link& peer() { return *pair_.to_primary; }

  EndpointPair pair_{kRegionBytes};
};

TEST_F(ShmLinkTest, WritesLandWhereTheyWereAimed) {
  std::array<WriteRequest, 3> requests = {Write(1, 0, 1), Write(2, 4095, 8193),
                                          Write(3, kRegionBytes - 100, 100)};
  requests[1].remote_offset = 20'000;
  requests[1].signaled = false;
  ASSERT_TRUE(link().PostWrites(requests).ok());
  EXPECT_THAT(PollAll(link()), ElementsAre(Done(1), Done(3)));
  const auto& from = pair_.source.bytes;
  const auto& to = pair_.journal.bytes;
  EXPECT_EQ(to[0], from[0]);
  EXPECT_TRUE(std::ranges::equal(to.subspan(20'000, 8193), from.subspan(4095, 8193)));
  EXPECT_TRUE(std::ranges::equal(to.last(100), from.last(100)));
  // Nothing else was touched.
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  EXPECT_TRUE(std::ranges::all_of(to.subspan(1, 19'999), is_zero));
  EXPECT_TRUE(std::ranges::all_of(to.subspan(28'193, kRegionBytes - 100 - 28'193), is_zero));
}

TEST_F(ShmLinkTest, BothSidesWrite) {
  pair_.journal.bytes[10] = std::byte{77};
  const WriteRequest answer = {.id = 5,
                               .local_region = pair_.journal.id,
                               .local_offset = 10,
                               .remote = pair_.peer_block_remote,
                               .remote_offset = 20,
                               .bytes = 1,
                               .signaled = true};
  ASSERT_TRUE(peer().PostWrites({&answer, 1}).ok());
  EXPECT_THAT(PollAll(peer()), ElementsAre(Done(5)));
  EXPECT_EQ(pair_.peer_block.bytes[20], std::byte{77});
}

TEST_F(ShmLinkTest, ReadFetchesThePeersBytes) {
  Random(2).Fill(pair_.journal.bytes);
  ASSERT_TRUE(link().PostRead(9, pair_.source.id, 100, pair_.journal_remote, 5000, 3000).ok());
  EXPECT_THAT(PollAll(link()), ElementsAre(Completion{.id = 9, .kind = CompletionKind::kRead}));
  EXPECT_TRUE(std::ranges::equal(pair_.source.bytes.subspan(100, 3000),
                                 pair_.journal.bytes.subspan(5000, 3000)));
}

TEST_F(ShmLinkTest, ImmediatesArriveInOrderAfterTheirData) {
  ASSERT_TRUE(peer().PostReceives(3).ok());
  for (uint32_t i = 0; i < 3; ++i) {
    WriteRequest request = Write(i, 100 * i, 100);
    request.has_immediate = true;
    request.immediate = 1000 + i;
    ASSERT_TRUE(Post(request).ok());
  }
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(1000), Arrived(1001), Arrived(1002)));
  EXPECT_TRUE(std::ranges::equal(pair_.journal.bytes.first(300), pair_.source.bytes.first(300)));
  EXPECT_THAT(PollAll(link()), ElementsAre(Done(0), Done(1), Done(2)));
}

TEST_F(ShmLinkTest, AnImmediateAloneNeedsNoRegion) {
  ASSERT_TRUE(peer().PostReceives(1).ok());
  ASSERT_TRUE(Post({.has_immediate = true, .immediate = 3}).ok());
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(3)));
  EXPECT_THAT(PollAll(link()), IsEmpty());
}

TEST_F(ShmLinkTest, AnImmediateWithoutAReceiveFailsTheLinkAfterItsDataLanded) {
  ASSERT_TRUE(peer().PostReceives(1).ok());
  ASSERT_TRUE(Post(WriteImmediate(1, 11)).ok());
  std::array<WriteRequest, 3> requests = {Write(2, 0, 50), Write(3, 100, 50), Write(4, 200, 50)};
  requests[1].has_immediate = true;
  requests[2].signaled = false;  // An error is reported all the same.
  ASSERT_TRUE(link().PostWrites(requests).ok());
  EXPECT_THAT(PollAll(link()), ElementsAre(Done(1), Done(2), Failed(3), Flushed(4)));
  const auto landed = [&](size_t offset) {
    return std::ranges::equal(pair_.journal.bytes.subspan(offset, 50),
                              pair_.source.bytes.subspan(offset, 50));
  };
  EXPECT_TRUE(landed(0));
  EXPECT_TRUE(landed(100));
  EXPECT_FALSE(landed(200));
  // The failure stays, and is told once.
  EXPECT_EQ(Post(Write(5, 0, 1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(link().PostReceives(1).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(link().PostRead(6, 0, 0, pair_.journal_remote, 0, 1).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_THAT(PollAll(link()), IsEmpty());
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(11)));
}

TEST_F(ShmLinkTest, RequestsOutsideTheirRegionsAreRefusedAsAWhole) {
  std::vector<WriteRequest> bad(9, Write(1, 0, 100));
  bad[0].local_offset = kRegionBytes - 99;
  bad[1].remote_offset = kRegionBytes - 99;
  bad[2].local_offset = UINT64_MAX;
  bad[3].remote_offset = UINT64_MAX - 50;
  bad[4].local_region = 17;
  bad[5].remote.key = 17;
  bad[6].remote.key = UINT64_MAX;
  bad[7].remote.base = 4096;
  bad[8].bytes = kShmMaxTransferBytes + 1;
  for (size_t i = 0; i < bad.size(); ++i) {
    const std::array<WriteRequest, 2> list = {Write(1, 0, 10), bad[i]};
    EXPECT_EQ(link().PostWrites(list).code(), absl::StatusCode::kInvalidArgument) << i;
  }
  EXPECT_THAT(PollAll(link()), IsEmpty());
  EXPECT_EQ(pair_.journal.bytes[0], std::byte{0});
  ASSERT_TRUE(Post(Write(2, 0, 10)).ok());
  EXPECT_THAT(PollAll(link()), ElementsAre(Done(2)));
}

TEST_F(ShmLinkTest, ANarrowedRemoteRegionIsKeptTo) {
  WriteRequest request = Write(1, 0, 100);
  request.remote.bytes = 100;
  EXPECT_TRUE(Post(request).ok());
  request.remote_offset = 1;
  EXPECT_EQ(Post(request).code(), absl::StatusCode::kInvalidArgument);
  // One that claims more than there is does not widen it.
  request.remote.bytes = UINT64_MAX;
  request.remote_offset = kRegionBytes;
  EXPECT_EQ(Post(request).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ShmLinkTest, ReadsOutsideTheirRegionsAreRefused) {
  const RemoteRegion remote = pair_.journal_remote;
  const uint32_t local = pair_.source.id;
  const auto code = [&](uint64_t to, uint64_t from, uint32_t bytes) {
    return link().PostRead(1, local, to, remote, from, bytes).code();
  };
  EXPECT_EQ(code(kRegionBytes, 0, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, kRegionBytes, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(UINT64_MAX, 0, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(0, UINT64_MAX, UINT32_MAX), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(link().PostRead(1, 40, 0, remote, 0, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(PollAll(link()), IsEmpty());
}

TEST_F(ShmLinkTest, AFullQueueRefusesTheWholeListUntilItIsPolled) {
  const std::vector<WriteRequest> most(CompletionQueue::kDepth - 1, Write(1, 0, 8));
  ASSERT_TRUE(link().PostWrites(most).ok());
  const std::array<WriteRequest, 2> two = {Write(2, 0, 8), Write(3, 0, 8)};
  const absl::Status full = link().PostWrites(two);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("poll"));
  ASSERT_TRUE(Post(two[0]).ok());
  EXPECT_EQ(link().PostRead(4, 0, 0, pair_.journal_remote, 0, 1).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(PollAll(link()).size(), CompletionQueue::kDepth);
  EXPECT_TRUE(link().PostWrites(two).ok());

  const std::vector<WriteRequest> too_many(CompletionQueue::kDepth + 1, Write(1, 0, 8));
  EXPECT_EQ(link().PostWrites(too_many).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ShmLinkTest, PollReturnsAsMuchAsFits) {
  ASSERT_TRUE(peer().PostReceives(5).ok());
  ASSERT_TRUE(link().PostReceives(2).ok());
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(Post(WriteImmediate(i, i)).ok());
  const WriteRequest back = {.id = 70, .signaled = true, .has_immediate = true, .immediate = 8};
  ASSERT_TRUE(peer().PostWrites({&back, 1}).ok());
  EXPECT_EQ(link().Poll({}), 0u);
  std::array<Completion, 2> room;
  EXPECT_EQ(link().Poll(room), 2u);
  EXPECT_THAT(room, ElementsAre(Done(0), Done(1)));
  EXPECT_EQ(link().Poll(room), 2u);
  EXPECT_THAT(room, ElementsAre(Done(2), Arrived(8)));
  EXPECT_EQ(link().Poll(room), 0u);
}

TEST_F(ShmLinkTest, ReceivesBeyondTheLimitAreRefused) {
  EXPECT_EQ(link().PostReceives(kMaxReceives + 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(link().PostReceives(kMaxReceives).ok());
  EXPECT_EQ(link().PostReceives(1).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ShmLinkTest, TheEventFiresOncePerArming) {
  ASSERT_TRUE(peer().PostReceives(10).ok());
  ASSERT_TRUE(Post(WriteImmediate(1, 1)).ok());
  EXPECT_EQ(PollNow(peer().event_fd(), POLLIN), 0);  // Nobody has armed it.
  ASSERT_TRUE(peer().ArmEvent().ok());
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(1)));
  ASSERT_TRUE(Post(WriteImmediate(2, 2)).ok());
  ASSERT_TRUE(Post(WriteImmediate(3, 3)).ok());
  EXPECT_EQ(PollNow(peer().event_fd(), POLLIN), POLLIN);
  ASSERT_TRUE(peer().ArmEvent().ok());
  EXPECT_EQ(PollNow(peer().event_fd(), POLLIN), 0);
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(2), Arrived(3)));
}

TEST_F(ShmLinkTest, TheEndOfThePeersLinkIsToldAfterItsLastImmediates) {
  ASSERT_TRUE(peer().PostReceives(2).ok());
  ASSERT_TRUE(peer().ArmEvent().ok());
  EXPECT_THAT(PollAll(peer()), IsEmpty());
  ASSERT_TRUE(Post(WriteImmediate(1, 1)).ok());
  ASSERT_TRUE(Post(WriteImmediate(2, 2)).ok());
  pair_.to_backup.reset();
  EXPECT_NE(PollNow(peer().event_fd(), POLLIN), 0);
  EXPECT_THAT(PollAll(peer()), ElementsAre(Arrived(1), Arrived(2)));
  EXPECT_THAT(PollAll(peer()), ElementsAre(LinkDown()));
  EXPECT_THAT(PollAll(peer()), IsEmpty());
  EXPECT_EQ(peer().PostWrites({}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(peer().ArmEvent().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmLinkTest, NothingIsWrittenOverALinkThatThePeerHasDestroyed) {
  pair_.to_primary.reset();
  const std::array<WriteRequest, 2> requests = {Write(1, 0, 100), Write(2, 0, 100)};
  ASSERT_TRUE(link().PostWrites(requests).ok());
  EXPECT_THAT(PollAll(link()), ElementsAre(Failed(1), Flushed(2)));
  EXPECT_EQ(pair_.journal.bytes[0], std::byte{0});
  EXPECT_EQ(link().PostWrites(requests).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmLinkTest, AReadAfterThePeersEndFails) {
  pair_.to_primary.reset();
  ASSERT_TRUE(link().PostRead(4, pair_.source.id, 0, pair_.journal_remote, 0, 8).ok());
  EXPECT_THAT(PollAll(link()),
              ElementsAre(Completion{
                  .id = 4, .kind = CompletionKind::kRead, .result = CompletionResult::kRetry}));
  EXPECT_EQ(link().PostWrites({}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmLinkTest, RevokeInsideOneProcessIsRefused) {
  EXPECT_EQ(link().Revoke().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Post(Write(1, 0, 10)).ok());
}

}  // namespace
}  // namespace haven
