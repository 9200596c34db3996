// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/blob.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace haven {
namespace {

VerbsRegionBlob SomeRegion() {
  return {.rails = 2, .rkeys = {17, 0xfeedbeef}, .address = 0x7f00'0000'1000, .bytes = 1 << 20};
}

VerbsLinkBlob SomeLink() {
  VerbsLinkBlob blob;
  blob.ways.push_back({.rail = 1, .address = InetAddress::ParseHost("10.1.0.2")->WithPort(7000)});
  blob.ways.push_back({.rail = 0, .address = InetAddress::ParseHost("fd00::2")->WithPort(7001)});
  blob.ways[0].token.fill(std::byte{0x11});
  blob.ways[1].token.fill(std::byte{0x22});
  return blob;
}

std::string WithByte(std::string blob, size_t at, uint8_t value) {
  blob[at] = static_cast<char>(value);
  return blob;
}

TEST(VerbsRegionBlob, ComesBack) {
  const absl::StatusOr<VerbsRegionBlob> blob =
      DecodeVerbsRegionBlob(EncodeVerbsRegionBlob(SomeRegion()));
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->rails, 2u);
  EXPECT_EQ(blob->rkeys, SomeRegion().rkeys);
  EXPECT_EQ(blob->address, SomeRegion().address);
  EXPECT_EQ(blob->bytes, SomeRegion().bytes);
}

TEST(VerbsRegionBlob, HasTheBytesOfItsDescription) {
  const std::string blob = EncodeVerbsRegionBlob(SomeRegion());
  EXPECT_EQ(blob.size(), 40u);
  EXPECT_EQ(blob.substr(0, 4), "HVBB");
  EXPECT_EQ(blob.substr(4, 4), std::string("\x01\x00\x01\x00", 4));
  EXPECT_EQ(blob.substr(12, 4), std::string("\x11\x00\x00\x00", 4));
}

TEST(VerbsRegionBlob, OtherLengthsAreRefused) {
  const std::string blob = EncodeVerbsRegionBlob(SomeRegion());
  for (size_t bytes = 0; bytes < blob.size(); ++bytes) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsRegionBlob(blob.substr(0, bytes)).status()))
        << bytes;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsRegionBlob(blob + '\0').status()));
}

TEST(VerbsRegionBlob, AnotherMagicKindOrVersionIsRefused) {
  const std::string blob = EncodeVerbsRegionBlob(SomeRegion());
  for (const size_t at : {0u, 3u, 4u, 5u, 6u, 7u}) {
    const auto other = static_cast<uint8_t>(blob[at] ^ 2);
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsRegionBlob(WithByte(blob, at, other)).status()))
        << at;
  }
  EXPECT_FALSE(DecodeVerbsRegionBlob(EncodeVerbsLinkBlob(SomeLink())).ok());
}

TEST(VerbsRegionBlob, FieldsBeyondTheirRangeAreRefused) {
  const auto refused = [](VerbsRegionBlob blob) {
    return absl::IsInvalidArgument(DecodeVerbsRegionBlob(EncodeVerbsRegionBlob(blob)).status());
  };
  VerbsRegionBlob blob = SomeRegion();
  blob.rails = 0;
  EXPECT_TRUE(refused(blob));
  blob.rails = 3;
  EXPECT_TRUE(refused(blob));
  blob.rails = 1;
  EXPECT_TRUE(refused(blob)) << "a key without its rail";
  blob = SomeRegion();
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4095}, kMaxRegionBytes + 4096, UINT64_MAX}) {
    blob.bytes = bytes;
    EXPECT_TRUE(refused(blob)) << bytes;
  }
  blob = SomeRegion();
  for (const uint64_t address : {uint64_t{0}, uint64_t{4097}, UINT64_MAX - 4095}) {
    blob.address = address;
    EXPECT_TRUE(refused(blob)) << address;
  }
  EXPECT_FALSE(DecodeVerbsRegionBlob(WithByte(EncodeVerbsRegionBlob(SomeRegion()), 20, 1)).ok())
      << "reserved";
}

TEST(VerbsLinkBlob, ComesBackInItsOrder) {
  const absl::StatusOr<VerbsLinkBlob> blob = DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(SomeLink()));
  ASSERT_TRUE(blob.ok()) << blob.status();
  ASSERT_EQ(blob->ways.size(), 2u);
  EXPECT_EQ(blob->ways[0].rail, 1u);
  EXPECT_EQ(blob->ways[0].address.ToString(), "10.1.0.2:7000");
  EXPECT_EQ(blob->ways[0].token, SomeLink().ways[0].token);
  EXPECT_EQ(blob->ways[1].address.ToString(), "[fd00::2]:7001");
}

TEST(VerbsLinkBlob, FitsIntoAControlMessage) {
  EXPECT_LE(EncodeVerbsLinkBlob(SomeLink()).size(), 4096u);
}

TEST(VerbsLinkBlob, OtherLengthsAreRefused) {
  const std::string blob = EncodeVerbsLinkBlob(SomeLink());
  for (size_t bytes = 0; bytes < blob.size(); ++bytes) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsLinkBlob(blob.substr(0, bytes)).status()))
        << bytes;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsLinkBlob(blob + '\0').status()));
}

TEST(VerbsLinkBlob, AddressesThatCanNotBeMeantAreRefused) {
  for (const char* host :
       {"0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.1.1", "::", "ff02::1", "fe80::1"}) {
    VerbsLinkBlob blob = SomeLink();
    blob.ways[1].address = InetAddress::ParseHost(host)->WithPort(7000);
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(blob)).status()))
        << host;
  }
}

TEST(VerbsLinkBlob, WaysBeyondTheirRangeAreRefused) {
  VerbsLinkBlob blob = SomeLink();
  blob.ways[1].rail = 1;
  EXPECT_FALSE(DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(blob)).ok()) << "a rail twice";
  blob = SomeLink();
  blob.ways[0].rail = 2;
  EXPECT_FALSE(DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(blob)).ok());
  blob = SomeLink();
  blob.ways[0].address = blob.ways[0].address.WithPort(0);
  EXPECT_FALSE(DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(blob)).ok());
  blob.ways.clear();
  EXPECT_FALSE(DecodeVerbsLinkBlob(EncodeVerbsLinkBlob(blob)).ok());
  const std::string good = EncodeVerbsLinkBlob(SomeLink());
  EXPECT_FALSE(DecodeVerbsLinkBlob(WithByte(good, 14, 5)).ok()) << "family";
  EXPECT_FALSE(DecodeVerbsLinkBlob(WithByte(good, 18, 1)).ok()) << "reserved";
  EXPECT_FALSE(DecodeVerbsLinkBlob(WithByte(good, 30, 1)).ok()) << "bytes behind an IPv4 address";
}

TEST(Join, ComesBackFromPaddedData) {
  LinkToken token;
  token.fill(std::byte{0x33});
  const auto encoded = EncodeJoin({.rail = 1, .token = token});
  std::array<std::byte, 56> padded = {};
  std::ranges::copy(encoded, padded.begin());
  const absl::StatusOr<Join> join = DecodeJoin(padded);
  ASSERT_TRUE(join.ok()) << join.status();
  EXPECT_EQ(join->rail, 1u);
  EXPECT_TRUE(SameToken(join->token, token));
}

TEST(Join, WhatAPortScanSendsIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeJoin({}).status()));
  std::array<std::byte, 56> zeros = {};
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeJoin(zeros).status()));
  const auto encoded = EncodeJoin({});
  EXPECT_TRUE(
      absl::IsInvalidArgument(DecodeJoin(std::span(encoded).first(kJoinBytes - 1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeJoin(EncodeJoin({.rail = kMaxRails})).status()));
}

TEST(SameToken, EveryByteCounts) {
  const LinkToken token = {};
  for (size_t i = 0; i < kLinkTokenBytes; ++i) {
    LinkToken other = token;
    other[i] = std::byte{0x80};
    EXPECT_FALSE(SameToken(token, other)) << i;
  }
  EXPECT_TRUE(SameToken(token, LinkToken{}));
}

}  // namespace
}  // namespace haven
