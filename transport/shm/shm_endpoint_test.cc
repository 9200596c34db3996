// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_endpoint.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/shm/blob.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

class ShmEndpointTest : public testing::Test {
 protected:
  EndpointPair pair_;
};

TEST_F(ShmEndpointTest, RegionsHaveTheSizeAskedForInWholePages) {
  const auto region = pair_.backup->Register(10'000, RegionAccess::kLocal);
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ(region->bytes.size(), 12'288u);
  EXPECT_EQ(pair_.backup->Register(0, RegionAccess::kLocal).status().code(), kInvalid);
  EXPECT_EQ(pair_.backup->Register(kMaxSharedBytes, RegionAccess::kLocal).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(ShmEndpointTest, TheNumberOfRegionsIsLimited) {
  absl::Status status;
  uint32_t last = 0;
  while (status.ok()) {
    const auto region = pair_.backup->Register(1, RegionAccess::kLocal);
    status = region.status();
    if (region.ok()) last = region->id;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(last, kMaxRegions - 1);
}

TEST_F(ShmEndpointTest, ExportSaysWhatThePeersImportSays) {
  const auto exported = pair_.backup->Export(pair_.journal);
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(exported->key, pair_.journal_remote.key);
  EXPECT_EQ(exported->base, pair_.journal_remote.base);
  EXPECT_EQ(exported->bytes, pair_.journal_remote.bytes);
}

TEST_F(ShmEndpointTest, LocalAndForeignRegionsAreNotOffered) {
  EXPECT_EQ(pair_.primary->Offer(pair_.source).status().code(), kInvalid);
  EXPECT_EQ(pair_.primary->Export(pair_.source).status().code(), kInvalid);
  EXPECT_EQ(pair_.primary->Offer(pair_.journal).status().code(), kInvalid);
  LocalRegion unknown = pair_.journal;
  unknown.id = 60;
  EXPECT_EQ(pair_.backup->Offer(unknown).status().code(), kInvalid);
}

TEST_F(ShmEndpointTest, ABlobIsGoodOnce) {
  const LocalRegion region = *pair_.backup->Register(4096, RegionAccess::kRemoteWrite);
  const std::string blob = *pair_.backup->Offer(region);
  EXPECT_LE(blob.size(), 4096u);
  EXPECT_TRUE(pair_.primary->Import(blob, kTestTimeout).ok());
  EXPECT_EQ(pair_.primary->Import(blob, kTestTimeout).status().code(), kInvalid);
}

TEST_F(ShmEndpointTest, ARegionMayBeOfferedAgainAndKeepsItsKey) {
  const auto again = pair_.primary->Import(*pair_.backup->Offer(pair_.journal), kTestTimeout);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->key, pair_.journal_remote.key);
}

TEST_F(ShmEndpointTest, OtherMemoryUnderAKnownIdIsRefused) {
  const LocalRegion other = *pair_.backup->Register(64 << 10, RegionAccess::kRemoteWrite);
  RegionBlob blob = *DecodeRegionBlob(*pair_.backup->Offer(other));
  blob.region = pair_.journal.id;
  EXPECT_EQ(pair_.primary->Import(EncodeRegionBlob(blob), kTestTimeout).status().code(), kInvalid);
}

TEST_F(ShmEndpointTest, LiesAboutTheSizeAreRefused) {
  for (const uint64_t bytes : {uint64_t{4096}, uint64_t{12'288}, kMaxSharedBytes}) {
    const LocalRegion region = *pair_.backup->Register(8192, RegionAccess::kRemoteWrite);
    RegionBlob blob = *DecodeRegionBlob(*pair_.backup->Offer(region));
    blob.bytes = bytes;
    const absl::Status refused =
        pair_.primary->Import(EncodeRegionBlob(blob), kTestTimeout).status();
    EXPECT_EQ(refused.code(), kInvalid) << bytes;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("8192"));
  }
}

TEST_F(ShmEndpointTest, UnsoundBlobsAreRefusedAtOnce) {
  const absl::Duration for_ever = absl::InfiniteDuration();
  EXPECT_EQ(pair_.primary->Import("", for_ever).status().code(), kInvalid);
  EXPECT_EQ(pair_.primary->Import(std::string(4096, 'x'), for_ever).status().code(), kInvalid);
  EXPECT_EQ(pair_.primary->ConnectLink("", for_ever).status().code(), kInvalid);
  EXPECT_EQ(
      pair_.primary->ConnectLink(*pair_.backup->Offer(pair_.journal), for_ever).status().code(),
      kInvalid);
  EXPECT_EQ(pair_.primary->Import(*pair_.backup->PrepareLink(), for_ever).status().code(),
            kInvalid);
}

TEST_F(ShmEndpointTest, ALinkTokenOpensOneLink) {
  const std::string blob = *pair_.backup->PrepareLink();
  EXPECT_TRUE(pair_.primary->ConnectLink(blob, kTestTimeout).ok());
  EXPECT_EQ(pair_.primary->ConnectLink(blob, kTestTimeout).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(pair_.primary->ConnectLink(EncodeLinkBlob({}), kTestTimeout).status().code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(ShmEndpointTest, LinksAreAcceptedInTheOrderOfTheirPreparation) {
  const std::string first = *pair_.backup->PrepareLink();
  const std::string second = *pair_.backup->PrepareLink();
  const auto second_link = pair_.primary->ConnectLink(second, kTestTimeout);
  ASSERT_TRUE(second_link.ok()) << second_link.status();
  EXPECT_EQ(pair_.backup->AcceptLink(absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  const auto first_link = pair_.primary->ConnectLink(first, kTestTimeout);
  const auto accepted_first = pair_.backup->AcceptLink(kTestTimeout);
  const auto accepted_second = pair_.backup->AcceptLink(kTestTimeout);
  ASSERT_TRUE(accepted_first.ok()) << accepted_first.status();
  ASSERT_TRUE(accepted_second.ok()) << accepted_second.status();

  // They are what they were accepted as.
  ASSERT_TRUE((*accepted_second)->PostReceives(1).ok());
  const WriteRequest request = {.has_immediate = true, .immediate = 2};
  ASSERT_TRUE((*second_link)->PostWrites({&request, 1}).ok());
  EXPECT_TRUE(PollAll(**accepted_first).empty());
  EXPECT_EQ(PollAll(**accepted_second).size(), 1u);
}

TEST_F(ShmEndpointTest, PreparedLinksAreLimited) {
  for (size_t i = 0; i < ShmEndpoint::kMaxPrepared; ++i) {
    ASSERT_TRUE(pair_.backup->PrepareLink().ok());
  }
  EXPECT_EQ(pair_.backup->PrepareLink().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ShmEndpointTest, AcceptWithoutPrepareIsAnError) {
  EXPECT_EQ(pair_.backup->AcceptLink(kTestTimeout).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ShmEndpointTest, AChannelServesOneEndpoint) {
  EXPECT_EQ(ShmEndpoint::Make(*pair_.channels.connector).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(pair_.primary->Attach(*pair_.channels.connector).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ShmEndpointTest, APeerThatHasGoneIsUnavailable) {
  const std::string region = *pair_.backup->Offer(pair_.journal);
  const std::string link = *pair_.backup->PrepareLink();
  pair_.to_primary.reset();
  pair_.backup.reset();
  // What it had sent is still there; what it had not is not, and there is nobody to answer.
  EXPECT_TRUE(pair_.primary->Import(region, kTestTimeout).ok());
  EXPECT_EQ(pair_.primary->ConnectLink(link, kTestTimeout).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(pair_.primary->Import(region, kTestTimeout).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(pair_.primary->PrepareLink().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(pair_.primary->Offer(pair_.peer_block).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ShmEndpointTest, AttachAfterAReconnectKeepsRegionsAndLinks) {
  const std::string stale_region = *pair_.backup->Offer(pair_.journal);
  const std::string stale_link = *pair_.backup->PrepareLink();
  pair_.channels = ChannelPair();
  ASSERT_TRUE(pair_.primary->Attach(*pair_.channels.connector).ok());
  ASSERT_TRUE(pair_.backup->Attach(*pair_.channels.acceptor).ok());

  // Blobs of the old connection are void.
  EXPECT_EQ(pair_.primary->Import(stale_region, kTestTimeout).status().code(), kInvalid);
  EXPECT_EQ(pair_.primary->ConnectLink(stale_link, kTestTimeout).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(pair_.backup->AcceptLink(kTestTimeout).status().code(),
            absl::StatusCode::kFailedPrecondition);

  pair_.source.bytes[0] = std::byte{4};
  const WriteRequest request = {.id = 1,
                                .local_region = pair_.source.id,
                                .remote = pair_.journal_remote,
                                .bytes = 1,
                                .signaled = true};
  ASSERT_TRUE(pair_.to_backup->PostWrites({&request, 1}).ok());
  EXPECT_EQ(pair_.journal.bytes[0], std::byte{4});
  pair_.Relink();
  pair_.source.bytes[0] = std::byte{5};
  ASSERT_TRUE(pair_.to_backup->PostWrites({&request, 1}).ok());
  EXPECT_EQ(pair_.journal.bytes[0], std::byte{5});
}

TEST_F(ShmEndpointTest, NothingLeaksOverManyReconnectsAndLinks) {
  const auto round = [&] {
    pair_.channels = ChannelPair();
    ASSERT_TRUE(pair_.primary->Attach(*pair_.channels.connector).ok());
    ASSERT_TRUE(pair_.backup->Attach(*pair_.channels.acceptor).ok());
    ASSERT_TRUE(pair_.primary->Import(*pair_.backup->Offer(pair_.journal), kTestTimeout).ok());
    ASSERT_TRUE(pair_.backup->Offer(pair_.journal).ok());  // Never imported.
    pair_.Relink();
    ASSERT_TRUE(pair_.backup->PrepareLink().ok());  // Never connected.
  };
  round();
  const int fds_before = CountOpenFds();
  for (int i = 0; i < 20; ++i) round();
  EXPECT_EQ(CountOpenFds(), fds_before);
}

// A peer that says what it likes on the rendezvous.
class LyingPeerTest : public testing::Test {
 protected:
  LyingPeerTest() : endpoint_(*ShmEndpoint::Make(*channels_.acceptor)) {
    liar_.emplace(channels_.connector->TakeRendezvous(), "the test");
  }

  // Offers `fd` as a region of 8192 bytes.
  absl::Status ImportAsRegion(const UniqueFd& fd) {
    const Token token = *MakeRandomToken();
    const int fds[] = {fd.get()};
    EXPECT_TRUE(liar_->Send(RendezvousKind::kRegion, token, fds, ShmDeadline(kTestTimeout)).ok());
    return endpoint_
        ->Import(EncodeRegionBlob({.token = token, .region = 0, .bytes = 8192}), kTestTimeout)
        .status();
  }
  absl::Status ConnectTo(int memory, int wake) {
    const Token token = *MakeRandomToken();
    const int fds[] = {memory, wake};
    EXPECT_TRUE(liar_->Send(RendezvousKind::kLink, token, fds, ShmDeadline(kTestTimeout)).ok());
    return endpoint_->ConnectLink(EncodeLinkBlob({.token = token}), kTestTimeout).status();
  }

  ChannelPair channels_;
  std::unique_ptr<ShmEndpoint> endpoint_;
  std::optional<Rendezvous> liar_;
};

TEST_F(LyingPeerTest, MemoryThatItCouldCutIsRefused) {
  const UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(unsealed.get(), 8192), 0);
  EXPECT_EQ(ImportAsRegion(unsealed).code(), kInvalid);
  EXPECT_EQ(ImportAsRegion(UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC))).code(), kInvalid);
}

TEST_F(LyingPeerTest, LinksOfWrongPartsAreRefused) {
  const SharedMemory right = *SharedMemory::Create("test", sizeof(LinkMemory));
  const SharedMemory small = *SharedMemory::Create("test", 4096);
  const SocketPair streams;
  EXPECT_EQ(ConnectTo(small.fd(), streams.connector.get()).code(), kInvalid);
  EXPECT_EQ(ConnectTo(streams.connector.get(), streams.connector.get()).code(), kInvalid);
  EXPECT_EQ(ConnectTo(right.fd(), right.fd()).code(), kInvalid);
  EXPECT_TRUE(ConnectTo(right.fd(), streams.connector.get()).ok());
}

TEST_F(LyingPeerTest, NoiseOnTheRendezvousIsDataLossEverywhere) {
  ASSERT_TRUE(endpoint_->PrepareLink().ok());
  for (size_t i = 0; i <= kMaxUnclaimed; ++i) {
    ASSERT_TRUE(
        liar_->Send(RendezvousKind::kConnected, *MakeRandomToken(), {}, ShmDeadline(kTestTimeout))
            .ok());
  }
  EXPECT_EQ(endpoint_->AcceptLink(kTestTimeout).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(endpoint_->ConnectLink(EncodeLinkBlob({}), kTestTimeout).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(endpoint_->PrepareLink().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(LyingPeerTest, RefusedDescriptorsDoNotStay) {
  const SharedMemory small = *SharedMemory::Create("test", 4096);
  const int fds_before = CountOpenFds();
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(ConnectTo(small.fd(), small.fd()).ok());
    EXPECT_FALSE(ImportAsRegion(UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC))).ok());
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
}

}  // namespace
}  // namespace haven
