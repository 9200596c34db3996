// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/blob.h"

#include <gtest/gtest.h>

#include "transport/shm/region_table.h"
#include "transport/shm/shared_memory.h"

namespace haven {
namespace {

const Token kToken = {std::byte{1}, std::byte{2}, std::byte{255}};

TEST(Blob, RegionRoundTrip) {
  const auto blob = DecodeRegionBlob(
      EncodeRegionBlob({.token = kToken, .region = kMaxRegions - 1, .bytes = kMaxSharedBytes}));
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->token, kToken);
  EXPECT_EQ(blob->region, kMaxRegions - 1);
  EXPECT_EQ(blob->bytes, kMaxSharedBytes);
}

TEST(Blob, LinkRoundTrip) {
  const auto blob = DecodeLinkBlob(EncodeLinkBlob({.token = kToken}));
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->token, kToken);
}

TEST(Blob, TheLayoutIsFixed) {
  const std::string blob = EncodeRegionBlob({.token = kToken, .region = 5, .bytes = 4096});
  EXPECT_EQ(blob.substr(0, 8), std::string("SHMB\1\0\1\0", 8));
  EXPECT_EQ(blob.substr(24), std::string("\5\0\0\0\0\x10\0\0\0\0\0\0", 12));
}

TEST(Blob, ImpossibleRegionsAreRefused) {
  for (const RegionBlob& bad :
       {RegionBlob{.region = kMaxRegions, .bytes = 4096}, RegionBlob{.region = 0, .bytes = 0},
        RegionBlob{.region = 0, .bytes = 4097},
        RegionBlob{.region = 0, .bytes = kMaxSharedBytes + 4096},
        RegionBlob{.region = UINT32_MAX, .bytes = UINT64_MAX - 4095}}) {
    EXPECT_EQ(DecodeRegionBlob(EncodeRegionBlob(bad)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad.region << " " << bad.bytes;
  }
}

TEST(Blob, EveryTruncationAndExtensionIsRefused) {
  const std::string region = EncodeRegionBlob({.token = kToken, .region = 5, .bytes = 4096});
  const std::string link = EncodeLinkBlob({.token = kToken});
  for (size_t bytes = 0; bytes < region.size(); ++bytes) {
    EXPECT_FALSE(DecodeRegionBlob(region.substr(0, bytes)).ok()) << bytes;
  }
  for (size_t bytes = 0; bytes < link.size(); ++bytes) {
    EXPECT_FALSE(DecodeLinkBlob(link.substr(0, bytes)).ok()) << bytes;
  }
  EXPECT_FALSE(DecodeRegionBlob(region + "x").ok());
  EXPECT_FALSE(DecodeLinkBlob(link + "x").ok());
}

TEST(Blob, OneKindIsNotTakenForTheOther) {
  const std::string region = EncodeRegionBlob({.token = kToken, .region = 5, .bytes = 4096});
  const std::string link = EncodeLinkBlob({.token = kToken});
  EXPECT_FALSE(DecodeLinkBlob(region).ok());
  EXPECT_FALSE(DecodeLinkBlob(region.substr(0, link.size())).ok());
  EXPECT_FALSE(DecodeRegionBlob(link + region.substr(link.size())).ok());
}

TEST(Blob, EveryFlippedBitOfTheHeaderIsRefused) {
  const std::string link = EncodeLinkBlob({.token = kToken});
  for (size_t bit = 0; bit < 8 * 8; ++bit) {
    std::string bad = link;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(DecodeLinkBlob(bad).status().code(), absl::StatusCode::kInvalidArgument) << bit;
  }
}

}  // namespace
}  // namespace haven
