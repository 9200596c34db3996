// SPDX-License-Identifier: Apache-2.0
//
// A link whose shared memory and wake-up socket the test holds itself, as a lying peer does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <vector>

#include "engine/base/random.h"
#include "transport/shm/shm_link.h"
#include "transport/shm/testing/completions.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ShmLinkScribbleTest : public testing::Test {
 protected:
  ShmLinkScribbleTest() {
    SharedMemory memory = *SharedMemory::Create("scribbled", sizeof(LinkMemory));
    const size_t bytes = memory.bytes().size();
    view_.emplace(*SharedMemory::Import("view", UniqueFd(dup(memory.fd())), bytes));
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    peers_wake_ = UniqueFd(pair[1]);
    source_.fill(std::byte{1});
    local_.Add(0, source_);
    remote_.Add(0, target_);
    link_ = std::make_unique<ShmLink>(ShmLinkParts{.memory = std::move(memory),
                                                   .sending_lane = 0,
                                                   .wake = UniqueFd(pair[0]),
                                                   .peer = *PeerProcess::Open(getpid()),
                                                   .local = &local_,
                                                   .remote = &remote_});
  }

  LinkLane& SendingLane() { return Shared().lanes[0]; }
  LinkLane& ReceivingLane() { return Shared().lanes[1]; }
  LinkMemory& Shared() { return *reinterpret_cast<LinkMemory*>(view_->bytes().data()); }

  std::optional<SharedMemory> view_;
  UniqueFd peers_wake_;
  std::array<std::byte, 64> source_{};
  std::array<std::byte, 64> target_{};
  RegionTable local_;
  RegionTable remote_;
  std::unique_ptr<ShmLink> link_;
};

TEST_F(ShmLinkScribbleTest, AnImpossibleSentCountFailsTheLink) {
  ASSERT_TRUE(link_->PostReceives(4).ok());
  ReceivingLane().sent = 5;
  EXPECT_THAT(PollAll(*link_), ElementsAre(LinkDown(CompletionResult::kOther)));
  EXPECT_THAT(PollAll(*link_), IsEmpty());
  EXPECT_EQ(link_->PostWrites({}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmLinkScribbleTest, AnImpossiblePostedCountFailsTheLink) {
  SendingLane().posted = UINT64_MAX;
  const std::array<WriteRequest, 2> requests = {WriteRequest{.id = 1, .has_immediate = true},
                                                WriteRequest{.id = 2}};
  ASSERT_TRUE(link_->PostWrites(requests).ok());
  EXPECT_THAT(PollAll(*link_),
              ElementsAre(Completion{.id = 1, .result = CompletionResult::kOther}, Flushed(2)));
  EXPECT_EQ(link_->PostWrites({}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmLinkScribbleTest, RandomScribblesNeverTakeMoreThanWasPosted) {
  ASSERT_TRUE(link_->PostReceives(100).ok());
  Random random(3);
  size_t arrived = 0;
  for (int round = 0; round < 1000; ++round) {
    random.Fill(view_->bytes());
    for (const Completion& completion : PollAll(*link_)) {
      if (completion.result == CompletionResult::kOk) ++arrived;
    }
  }
  EXPECT_LE(arrived, 100u);
  EXPECT_EQ(link_->PostWrites({}).code(), absl::StatusCode::kUnavailable);
}

// What happens when the peer gives up in the middle of a list: here the first write itself raises
// the peer's flag, for the target is the link's own memory.
TEST_F(ShmLinkScribbleTest, AListStopsWhereThePeerGaveUp) {
  remote_.Add(1, view_->bytes());
  const RemoteRegion own_memory = {.key = 1, .base = 0, .bytes = view_->bytes().size()};
  const auto flag = static_cast<uint64_t>(reinterpret_cast<std::byte*>(&ReceivingLane().closed) -
                                          view_->bytes().data());
  const RemoteRegion target = {.key = 0, .base = 0, .bytes = target_.size()};
  const std::array<WriteRequest, 3> requests = {
      WriteRequest{.id = 1, .remote = own_memory, .remote_offset = flag, .bytes = 1},
      WriteRequest{.id = 2, .remote = target, .bytes = 8, .signaled = true},
      WriteRequest{.id = 3, .remote = target, .bytes = 8}};
  ASSERT_TRUE(link_->PostWrites(requests).ok());
  EXPECT_THAT(PollAll(*link_), ElementsAre(Failed(2), Flushed(3)));
  EXPECT_EQ(target_[0], std::byte{0});
}

// Who has armed the event is woken by the hang-up and must then be told at once.
TEST_F(ShmLinkScribbleTest, APollAfterArmingDoesNotMissTheHangUp) {
  ASSERT_TRUE(link_->ArmEvent().ok());
  EXPECT_THAT(PollAll(*link_), IsEmpty());
  peers_wake_.reset();
  EXPECT_THAT(PollAll(*link_), ElementsAre(LinkDown()));
}

// The peer never reads its wake-up socket and says that it is armed, again and again.
TEST_F(ShmLinkScribbleTest, AStuffedWakeUpSocketDoesNotBlock) {
  SendingLane().posted = kMaxReceives;
  std::array<Completion, 4> room;
  for (uint32_t i = 0; i < 20 * kMaxReceives; ++i) {
    SendingLane().posted = i + 1;
    SendingLane().armed = 1;
    const WriteRequest request = {.id = i, .signaled = true, .has_immediate = true};
    ASSERT_TRUE(link_->PostWrites({&request, 1}).ok());
    ASSERT_EQ(link_->Poll(room), 1u);
    ASSERT_EQ(room[0].result, CompletionResult::kOk);
  }
}

TEST_F(ShmLinkScribbleTest, AFloodOfWakeUpsIsDrainedInBoundedSteps) {
  const std::vector<char> flood(100'000, 'x');
  while (send(peers_wake_.get(), flood.data(), flood.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_TRUE(link_->ArmEvent().ok());
  EXPECT_THAT(PollAll(*link_), IsEmpty());
}

}  // namespace
}  // namespace haven
