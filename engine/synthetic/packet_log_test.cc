// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/packet_log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/synthetic/unix_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

SyntheticPacket PacketOf(uint64_t sequence) {
  SyntheticPacket packet;
  packet.sequence = sequence;
  packet.generation = 2;
  packet.vcpu = 3;
  packet.writes = 1000 * sequence;
  packet.emitted_ns = 5;
  packet.released_ns = 9;
  packet.pid = 77;
  return packet;
}

std::vector<SyntheticPacket> PacketsOf(uint64_t first, uint64_t last) {
  std::vector<SyntheticPacket> packets;
  for (uint64_t i = first; i <= last; ++i) packets.push_back(PacketOf(i));
  return packets;
}

std::string FreshPath(const char* name) {
  const std::string path = ::testing::TempDir() + name;
  unlink(path.c_str());
  return path;
}

TEST(PacketLogTest, EveryFlippedBitOfARecordIsNoticed) {
  std::array<std::byte, kPacketRecordBytes> record;
  EncodePacket(PacketOf(5), record);
  EXPECT_EQ(*DecodePacket(record), PacketOf(5));
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    record[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_EQ(DecodePacket(record).status().code(), absl::StatusCode::kDataLoss) << bit;
    record[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_FALSE(DecodePacket(std::span(record).first(record.size() - 1)).ok());
}

TEST(PacketLogTest, AFileIsAppendedToInOrderByEveryOneWhoHasIt) {
  const std::string path = FreshPath("packets_shared");
  absl::StatusOr<std::unique_ptr<PacketSink>> first = OpenPacketSink(path);
  absl::StatusOr<std::unique_ptr<PacketSink>> second = OpenPacketSink(path);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ((*first)->Send(PacketsOf(1, PacketSink::kBatch)), 0u);
  EXPECT_EQ((*second)->Send(PacketsOf(257, 260)), 0u);
  EXPECT_EQ((*first)->Send(PacketsOf(261, 261)), 0u);
  const absl::StatusOr<std::vector<SyntheticPacket>> read = ReadPacketLog(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, PacketsOf(1, 261));
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(PacketLogTest, AnUnfinishedRecordAtTheEndIsLeftOut) {
  const std::string path = FreshPath("packets_unfinished");
  ASSERT_EQ((*OpenPacketSink(path))->Send(PacketsOf(1, 3)), 0u);
  ASSERT_EQ(truncate(path.c_str(), 3 * kPacketRecordBytes - 1), 0);
  EXPECT_EQ(*ReadPacketLog(path), PacketsOf(1, 2));
}

TEST(PacketLogTest, ADamagedRecordIsNamed) {
  const std::string path = FreshPath("packets_damaged");
  ASSERT_EQ((*OpenPacketSink(path))->Send(PacketsOf(1, 3)), 0u);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kPacketRecordBytes + 20);
    file.put('!');
  }
  const absl::Status status = ReadPacketLog(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("record 1"));
}

TEST(PacketLogTest, AMissingLogIsReported) {
  EXPECT_EQ(ReadPacketLog(FreshPath("packets_missing")).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(PacketLogTest, WhatTheDiskDoesNotTakeIsLostAndNothingFollowsIt) {
  absl::StatusOr<std::unique_ptr<PacketSink>> sink = OpenPacketSink("/dev/full");
  ASSERT_TRUE(sink.ok()) << sink.status();
  EXPECT_EQ((*sink)->Send(PacketsOf(1, 5)), 5u);
  EXPECT_EQ((*sink)->Send(PacketsOf(6, 6)), 1u);
}

TEST(PacketLogTest, WithoutALogNothingIsLost) {
  EXPECT_EQ((*OpenPacketSink(""))->Send(PacketsOf(1, 5)), 0u);
}

TEST(PacketLogTest, ASocketGetsOneDatagramAPacketAndLosesWhatItDoesNotTake) {
  const std::string path = FreshPath("packets.sock");
  absl::StatusOr<std::unique_ptr<PacketSink>> sink = OpenPacketSink("unix:" + path);
  ASSERT_TRUE(sink.ok()) << sink.status();
  EXPECT_EQ((*sink)->Send(PacketsOf(1, 2)), 2u) << "nobody listens";

  const UniqueFd receiver(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UnixAddress address = *UnixAddress::Make(path);
  ASSERT_EQ(bind(receiver.get(), address.get(), address.bytes()), 0);
  EXPECT_EQ((*sink)->Send(PacketsOf(3, 4)), 0u);
  for (uint64_t sequence : {3u, 4u}) {
    std::array<std::byte, kPacketRecordBytes + 1> record;
    const ssize_t bytes = recv(receiver.get(), record.data(), record.size(), MSG_DONTWAIT);
    ASSERT_EQ(bytes, static_cast<ssize_t>(kPacketRecordBytes));
    EXPECT_EQ(*DecodePacket(std::span(record).first(kPacketRecordBytes)), PacketOf(sequence));
  }
  // A receiver that does not read must not stop the guest.
  EXPECT_GT((*sink)->Send(PacketsOf(5, 260)) + (*sink)->Send(PacketsOf(261, 516)) +
                (*sink)->Send(PacketsOf(517, 772)),
            0u);
}

TEST(PacketLogTest, PlacesThatCanNotBeOpenedAreRefused) {
  EXPECT_EQ(OpenPacketSink("/no/such/directory/log").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenPacketSink("unix:/no/such/directory/log").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenPacketSink("unix:/" + std::string(200, 'x')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace haven
