// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/migration_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "xen/base/formats_testing.h"
#include "xen/base/hvm_context.h"

namespace haven {
namespace {

absl::StatusOr<std::string> StreamOf(const XenDescription& description, const std::string& json) {
  std::string stream;
  const absl::Status written =
      WriteMigrationStream(description, json, [&](std::span<const std::byte> bytes) {
        stream.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return absl::OkStatus();
      });
  if (!written.ok()) return written;
  return stream;
}

// The whole stream of a guest of three frames, written down by hand from the specifications.
TEST(MigrationStreamTest, GoldenBytes) {
  XenDescription description = FakeXenDescription();
  description.frames = {{0, 2}, {0xfefff, 1}};
  description.cpuid_policy.assign(kXenCpuidLeafBytes, std::byte{3});
  const std::string wanted = absl::HexStringToBytes(absl::StrCat(
      // xl: magic, byte order, flags, optional flags, length of what follows; the JSON as a string.
      "58656e20736176656420646f6d61696e2c20786c20666f726d61740a2000200d",  // Xen saved domain, xl
                                                                           // ..
      "04030201", "03000000", "00000000", "07000000",                      //
      "03000000", "7b7d00",
      // libxl: magic, version, options; LIBXC_CONTEXT.
      "4c6962786c466d74", "00000002", "00000000", "0100000000000000",
      // libxc: marker, magic, version, options and reserved; HVM domain, 4 KiB, Xen 4.17.
      "ffffffffffffffff", "58454e46", "00000003", "0000000000000000",  //
      "02000000", "0c000000", "04000000", "11000000",
      // CPUID policy of one leaf, MSR policy of one entry, STATIC_DATA_END.
      "1100000018000000", "030303030303030303030303030303030303030303030303",  //
      "1200000010000000", "04040404040404040404040404040404",                  //
      "1000000000000000",
      // PAGE_DATA: three frames to allocate, no content.
      "0100000020000000", "0300000000000000",  //
      "00000000000000e0", "01000000000000e0", "ffef0f00000000e0",
      // X86_TSC_INFO: mode 0, 2 GHz, 1 ms, incarnation 1.
      "0800000018000000", "00000000", "80841e00", "40420f0000000000", "01000000", "00000000",
      // HVM_PARAMS: the frames of store and console.
      "0a00000028000000", "0200000000000000",  //
      "0100000000000000", "fcef0f0000000000", "1100000000000000", "ffef0f0000000000",
      // HVM_CONTEXT: header and end mark.
      "0900000028000000", "0100000018000000", "8612385401000000",
      "00000000000000000000000000000000", "0000000000000000",
      // END of libxc, END of libxl.
      "0000000000000000", "0000000000000000"));
  // As it comes out of the handshake.
  const absl::StatusOr<XenDescription> received =
      DecodeXenDescription(*EncodeXenDescription(description));
  ASSERT_TRUE(received.ok());
  const absl::StatusOr<std::string> stream = StreamOf(*received, "{}");
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ(absl::BytesToHexString(*stream), absl::BytesToHexString(wanted));
}

XenDescription WithADeviceModel() {
  XenDescription description = FakeXenDescription();
  description.device_model = "7.2.22 Debian";
  return description;
}

// EMULATOR_CONTEXT of 17 bytes: QEMU, number 0, "QEVM" and version 3 (big-endian), the end mark;
// padding. libxl_stream_write.c of 4.17.
constexpr char kEmptyEmulatorContext[] =
    "0300000011000000"
    "0200000000000000"
    "5145564d00000003"
    "0000000000000000";
constexpr char kEnd[] = "0000000000000000";

TEST(MigrationStreamTest, ADeviceModelsStateComesBetweenTheTwoEnds) {
  const std::string without = absl::BytesToHexString(*StreamOf(FakeXenDescription(), "{}"));
  const std::string with = absl::BytesToHexString(*StreamOf(WithADeviceModel(), "{}"));
  // It ends with END of libxc and END of libxl.
  const size_t libxl_end = without.size() - (sizeof(kEnd) - 1);
  EXPECT_EQ(with, without.substr(0, libxl_end) + kEmptyEmulatorContext + kEnd);
}

TEST(MigrationStreamTest, BeforeTheEndTheReceiverHasAllElse) {
  std::string stream;
  std::string before_state = "not called";
  std::string before_end = "not called";
  const StreamSink sink = [&](std::span<const std::byte> bytes) {
    stream.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return absl::OkStatus();
  };
  const auto note = [&](std::string& place) {
    return [&] {
      place = stream;
      return absl::OkStatus();
    };
  };
  ASSERT_TRUE(
      WriteMigrationStream(WithADeviceModel(), "{}", sink, note(before_state), note(before_end))
          .ok());
  EXPECT_EQ(before_state.size() + 32, before_end.size()) << "the record of the state";
  EXPECT_EQ(before_end + std::string(8, '\0'), stream);
  EXPECT_EQ(stream, *StreamOf(WithADeviceModel(), "{}"));
}

TEST(MigrationStreamTest, WithoutItsConsentThereIsNoEnd) {
  std::string stream;
  const StreamSink sink = [&](std::span<const std::byte> bytes) {
    stream.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return absl::OkStatus();
  };
  const auto refuse = [] { return absl::AbortedError("no"); };
  EXPECT_TRUE(
      absl::IsAborted(WriteMigrationStream(WithADeviceModel(), "{}", sink, nullptr, refuse)));
  EXPECT_EQ(stream.size() + 8, StreamOf(WithADeviceModel(), "{}")->size());
  // Nothing waits for a state where there is no device model.
  EXPECT_TRUE(WriteMigrationStream(FakeXenDescription(), "{}", sink, refuse, refuse).ok());
}

TEST(MigrationStreamTest, WithoutMsrsThereIsNoMsrPolicy) {
  XenDescription with = FakeXenDescription();
  XenDescription without = with;
  without.msr_policy.clear();
  EXPECT_EQ(StreamOf(with, "{}")->size() - StreamOf(without, "{}")->size(), 8 + kXenMsrEntryBytes);
}

// The allocations in a stream, record by record.
std::vector<std::vector<uint64_t>> AllocationsIn(const std::string& stream, size_t json_bytes) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(stream.data(), stream.size()));
  XenRecordReader reader(bytes.subspan(48 + 4 + json_bytes + 1 + 16 + 8 + 24 + 16));
  std::vector<std::vector<uint64_t>> records;
  for (XenRecord record; !reader.done() && reader.Next(record).ok();) {
    if (record.type != static_cast<uint32_t>(XenRecordType::kPageData)) continue;
    EXPECT_EQ(LoadLe32(record.body.data()) * 8 + 8, record.body.size());
    std::vector<uint64_t>& frames = records.emplace_back();
    for (size_t at = 8; at < record.body.size(); at += 8) {
      frames.push_back(LoadLe64(record.body.data() + at));
    }
  }
  return records;
}

TEST(MigrationStreamTest, FramesComeInRecordsOfAtMost1024) {
  XenDescription description = FakeXenDescription();
  description.frames = {{0, 1500}, {5000, 548}, {0xfefff, 1}};
  const std::vector<std::vector<uint64_t>> records =
      AllocationsIn(*StreamOf(description, "{\"a\":1}"), 7);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].size(), 1024u);
  EXPECT_EQ(records[1].size(), 1024u);
  EXPECT_EQ(records[2], std::vector<uint64_t>{0xe0000000000fefff});
  EXPECT_EQ(records[1][475], uint64_t{0xe} << 60 | 1499);
  EXPECT_EQ(records[1][476], uint64_t{0xe} << 60 | 5000);
}

TEST(MigrationStreamTest, ExactlyOneRecordHasNoEmptyOneAfterIt) {
  XenDescription description = FakeXenDescription();
  description.frames = {{0, 1024}};
  EXPECT_EQ(AllocationsIn(*StreamOf(description, "{}"), 2).size(), 1u);
}

TEST(MigrationStreamTest, TheFirstErrorOfTheSinkEndsIt) {
  int calls = 0;
  XenDescription description = FakeXenDescription();
  description.frames = {{0, 10 * 1024}};
  const absl::Status written =
      WriteMigrationStream(description, "{}", [&](std::span<const std::byte> bytes) {
        EXPECT_LE(bytes.size(), size_t{64} << 10);
        return ++calls == 3 ? absl::UnavailableError("closed") : absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsUnavailable(written));
  EXPECT_EQ(calls, 3);
}

TEST(MigrationStreamTest, AStateThatIsNoneIsRefused) {
  XenDescription description = FakeXenDescription();
  description.first_state.resize(8);
  EXPECT_TRUE(absl::IsInvalidArgument(StreamOf(description, "{}").status()));
}

}  // namespace
}  // namespace haven
