// SPDX-License-Identifier: Apache-2.0
//
// Hello, Welcome and Refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/replica/control_message.h"
#include "engine/replica/control_message_testing.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

Hello SampleHello() {
  return {.offer = {.version_min = 1, .version_max = 2, .required = 1, .optional = 6},
          .node_id = "host-a",
          .group = "web",
          .session = 0x1122334455667788,
          .base_session = 5,
          .base_epoch = 41,
          .slot_bytes = 262144,
          .max_epoch_slots = 64,
          .detect_ns = 100'000'000,
          .interval_ns = 25'000'000,
          .return_address = "10.0.0.1:7000",
          .domains = {{.name = "g1",
                       .uuid = "01234567-89ab-cdef-0123-456789abcdef",
                       .config = std::string("\0\xff", 2),
                       .page_count = 0x1000,
                       .max_state_bytes = 65536,
                       .ram = {{0, 0xa0}, {0x100, 0xf00}}}}};
}

Welcome SampleWelcome() {
  return {
      .agreement = {.version = 1, .features = 3},
      .node_id = "host-b",
      .session = 0x1122334455667788,
      .geometry = {.slot_bytes = 262144, .ring_slots = 32, .pool_slots = 64, .extent_slots = 16},
      .journal_region = FromHex("010203"),
      .session_address = "10.0.0.2:7001",
      .base_accepted = true,
      .base_epoch = 41};
}

const Refuse kRefuseSample = {.code = RefuseCode::kGroupBusy, .message = "no"};

TEST(HandshakeTest, EncodesToTheDocumentedBytes) {
  EXPECT_EQ(ToHex(EncodeControlMessage(SampleHello()).value()), kHello);
  EXPECT_EQ(ToHex(EncodeControlMessage(SampleWelcome()).value()), kWelcome);
  EXPECT_EQ(ToHex(EncodeControlMessage(kRefuseSample).value()), kRefuse);
}

TEST(HandshakeTest, DecodesTheDocumentedBytes) {
  EXPECT_EQ(DecodeControlMessage(FromHex(kHello)).value(), ControlMessage(SampleHello()));
  EXPECT_EQ(DecodeControlMessage(FromHex(kWelcome)).value(), ControlMessage(SampleWelcome()));
  EXPECT_EQ(DecodeControlMessage(FromHex(kRefuse)).value(), ControlMessage(kRefuseSample));
}

TEST(HandshakeTest, EveryTruncationIsRefused) {
  for (const std::string_view hex : {kHello, kWelcome, kRefuse}) {
    const std::vector<std::byte> whole = FromHex(hex);
    for (size_t length = 0; length < whole.size(); ++length) {
      std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      EXPECT_FALSE(DecodeControlMessage(cut).ok()) << length;
      if (length < kControlEnvelopeBytes) continue;
      Poke(cut, 8, 4, length - kControlEnvelopeBytes);  // The body's length is as cut.
      EXPECT_THAT(std::string(DecodeControlMessage(cut).status().message()), HasSubstr("bytes, "))
          << length;
    }
  }
}

// Offsets in the sample messages, behind the envelope.
struct Damage {
  std::string_view message;
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

TEST(HandshakeTest, EachWrongFieldIsNamedByTheDecoder) {
  const Damage cases[] = {
      {kHello, 12, 2, 0, "Hello: version_min is 0, must be 1 .. 65535"},
      {kHello, 14, 2, 0, "Hello: version_max is 0, must be 1 .. 65535"},
      {kHello, 12, 2, 3, "Hello: version_max is 2, must be 3 .. 65535"},
      {kHello, 24, 8, 7, "Hello: optional_features is 7, must be without a bit"},
      {kHello, 32, 4, 0, "Hello: node_id has length 0, must be 1 .. 63"},
      {kHello, 32, 4, 64, "Hello: node_id has length 64, must be 1 .. 63"},
      {kHello, 36, 1, '/', "Hello: node_id has byte 0x2f at offset 0"},
      {kHello, 42, 4, 0, "Hello: group has length 0,"},
      {kHello, 48, 1, ' ', "Hello: group has byte 0x20 at offset 2"},
      {kHello, 49, 8, 0, "Hello: session is 0,"},
      {kHello, 57, 8, 0, "Hello: base_epoch is 41, must be 0 exactly if base_session is 0"},
      {kHello, 57, 8, 0x1122334455667788, "Hello: base_session is 1234605616436508552, must be"},
      {kHello, 65, 8, 0, "Hello: base_epoch is 0,"},
      {kHello, 73, 4, 32768, "Hello: slot_bytes is 32768,"},
      {kHello, 73, 4, 262145, "Hello: slot_bytes is 262145, must be a power of two"},
      {kHello, 73, 4, 8388608, "Hello: slot_bytes is 8388608,"},
      {kHello, 77, 4, 0, "Hello: max_epoch_slots is 0,"},
      {kHello, 81, 8, 999999, "Hello: detect_ns is 999999,"},
      {kHello, 81, 8, 3600000000001, "Hello: detect_ns is 3600000000001,"},
      {kHello, 89, 8, 3600000000001, "Hello: interval_ns is 3600000000001,"},
      {kHello, 97, 4, 256, "Hello: return_address has length 256,"},
      {kHello, 97, 4, 255, "Hello: return_address needs 255 bytes, "},
      {kHello, 101, 1, '\n', "Hello: return_address has byte 0x0a at offset 0"},
      {kHello, 114, 4, 0, "Hello: domains has length 0, must be 1 .. 16"},
      {kHello, 114, 4, 17, "Hello: domains has length 17, must be 1 .. 16"},
      {kHello, 114, 4, UINT32_MAX, "Hello: domains has length 4294967295,"},
      {kHello, 114, 4, 2, "Hello: domains[1].name needs 4 bytes, 0 are left"},
      {kHello, 118, 4, 0, "Hello: domains[0].name has length 0, must be 1 .. 127"},
      {kHello, 118, 4, 128, "Hello: domains[0].name has length 128,"},
      {kHello, 123, 1, 0x7f, "Hello: domains[0].name has byte 0x7f at offset 1"},
      {kHello, 124, 4, 35, "Hello: domains[0].uuid has length 35, must be 36 .. 36"},
      {kHello, 128, 1, 'A', "Hello: domains[0].uuid: \"A1234567-"},
      {kHello, 128, 1, 'g', "must be 8-4-4-4-12 lower-case"},
      {kHello, 136, 1, '0', "must be 8-4-4-4-12 lower-case"},
      {kHello, 164, 4, 65537, "Hello: domains[0].config has length 65537,"},
      {kHello, 170, 8, 0, "Hello: domains[0].page_count is 0,"},
      {kHello, 170, 8, (uint64_t{1} << 32) + 1, "Hello: domains[0].page_count is 4294967297,"},
      {kHello, 170, 8, 0xfff, "Hello: domains[0].ram[1].pages is 3840, must be within page_count"},
      {kHello, 170, 8, 0x100, "Hello: domains[0].ram[1].first_gfn is 256, must be below"},
      {kHello, 178, 4, 0, "Hello: domains[0].max_state_bytes is 0,"},
      {kHello, 178, 4, (64 << 20) + 1, "Hello: domains[0].max_state_bytes is 67108865,"},
      {kHello, 182, 4, 0, "Hello: domains[0].ram has length 0, must be 1 .. 4096"},
      {kHello, 182, 4, 4097, "Hello: domains[0].ram has length 4097,"},
      {kHello, 182, 4, 1, "Hello: bytes behind the last field is 16, must be 0"},
      {kHello, 194, 8, 0, "Hello: domains[0].ram[0].pages is 0,"},
      {kHello, 194, 8, 0x101, "Hello: domains[0].ram[1].first_gfn is 256, must be ascending"},
      {kHello, 202, 8, UINT64_MAX, "Hello: domains[0].ram[1].first_gfn is 18446744073709551615,"},
      {kHello, 210, 8, UINT64_MAX, "Hello: domains[0].ram[1].pages is 18446744073709551615,"},
      {kWelcome, 12, 2, 0, "Welcome: version is 0,"},
      {kWelcome, 22, 4, 0, "Welcome: node_id has length 0,"},
      {kWelcome, 22, 4, 64, "Welcome: node_id has length 64,"},
      {kWelcome, 32, 8, 0, "Welcome: session is 0,"},
      {kWelcome, 40, 4, 1, "Welcome: geometry: journal geometry: slot_bytes is 1,"},
      {kWelcome, 44, 4, 0, "Welcome: geometry: journal geometry: ring_slots is 0,"},
      {kWelcome, 48, 4, 63, "Welcome: geometry: journal geometry: pool_slots is 63,"},
      {kWelcome, 52, 4, 0, "Welcome: geometry: journal geometry: extent_slots is 0,"},
      {kWelcome, 56, 4, 4097, "Welcome: journal_region has length 4097, must be 0 .. 4096"},
      {kWelcome, 63, 4, 256, "Welcome: session_address has length 256,"},
      {kWelcome, 67, 1, 0x80, "Welcome: session_address has byte 0x80 at offset 0"},
      {kWelcome, 80, 1, 2, "Welcome: base_accepted is 2,"},
      {kWelcome, 80, 1, 0, "Welcome: base_epoch is 41, must be 0 exactly"},
      {kWelcome, 81, 8, 0, "Welcome: base_epoch is 0, must be 0 exactly"},
      {kRefuse, 12, 2, 0, "Refuse: code is 0, must be 1 .. 10"},
      {kRefuse, 12, 2, 11, "Refuse: code is 11, must be 1 .. 10"},
      {kRefuse, 14, 4, 1025, "Refuse: message has length 1025,"},
      {kRefuse, 18, 1, 0x1b, "Refuse: message has byte 0x1b at offset 0"},
  };
  for (const Damage& damage : cases) {
    std::vector<std::byte> bytes = FromHex(damage.message);
    Poke(bytes, damage.offset, damage.width, damage.value);
    const absl::StatusOr<ControlMessage> message = DecodeControlMessage(bytes);
    EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument) << damage.error;
    EXPECT_THAT(std::string(message.status().message()), HasSubstr(damage.error));
  }
}

TEST(HandshakeTest, TheEncoderLetsNothingOutThatTheDecoderRefuses) {
  const std::vector<std::pair<std::function<void(Hello&)>, std::string>> cases = {
      {[](Hello& h) { h.offer.version_min = 0; }, "version_min is 0,"},
      {[](Hello& h) { h.node_id = "a b"; }, "node_id has byte 0x20 at offset 1"},
      {[](Hello& h) { h.group = std::string(64, 'g'); }, "group has length 64,"},
      // The first rule that is broken is the one that is told.
      {[](Hello& h) { h.group = std::string(64, '/'); }, "group has length 64,"},
      {[](Hello& h) { h.session = 0; }, "session is 0,"},
      {[](Hello& h) { h.base_session = 0; }, "base_epoch is 41,"},
      {[](Hello& h) { h.domains.clear(); }, "domains has length 0,"},
      {[](Hello& h) { h.domains[0].name = "tab\t"; }, "domains[0].name has byte 0x09 at offset 3"},
      {[](Hello& h) { h.domains[0].config = std::string(65537, 'c'); },
       "domains[0].config has length 65537,"},
      {[](Hello& h) {
         h.domains[0].ram.resize(4097, {1, 1});
       },
       "domains[0].ram has length 4097,"},
      {[](Hello& h) { h.domains[0].ram[1].first_gfn = 0x9f; },
       "domains[0].ram[1].first_gfn is 159,"},
      {[](Hello& h) { h.domains.push_back(h.domains[0]); },
       "domains: name \"g1\" must be there only"},
      {[](Hello& h) {
         h.domains.push_back(h.domains[0]);
         h.domains[1].name = "g2";
       },
       "domains: uuid \"01234567-89ab-cdef-0123-456789abcdef\" must be there only once"},
  };
  for (const auto& [damage, error] : cases) {
    Hello hello = SampleHello();
    damage(hello);
    const absl::StatusOr<std::vector<std::byte>> encoded = EncodeControlMessage(hello);
    EXPECT_EQ(encoded.status().code(), absl::StatusCode::kInvalidArgument) << error;
    EXPECT_THAT(std::string(encoded.status().message()), HasSubstr("Hello: " + error));
  }
}

TEST(HandshakeTest, TwoDomainsOfOneNameAreRefusedByTheDecoder) {
  Hello hello = SampleHello();
  hello.domains.push_back(hello.domains[0]);
  hello.domains[1].name = "g2";
  hello.domains[1].uuid[0] = 'f';
  std::vector<std::byte> bytes = EncodeControlMessage(hello).value();
  ASSERT_TRUE(DecodeControlMessage(bytes).ok());
  const size_t second_name = 118 + (bytes.size() - 118) / 2 + 5;
  ASSERT_EQ(bytes[second_name], std::byte{'2'});
  bytes[second_name] = std::byte{'1'};
  EXPECT_THAT(std::string(DecodeControlMessage(bytes).status().message()),
              HasSubstr("Hello: domains: name \"g1\" must be there only once"));
}

// A Hello whose encoding has exactly `bytes` bytes.
Hello HelloOfSize(size_t bytes) {
  Hello hello = SampleHello();
  hello.domains.clear();
  for (char digit = '0'; digit <= '9'; ++digit) {
    HelloDomain domain = SampleHello().domains[0];
    domain.name = std::string("g") + digit;
    domain.uuid[0] = digit;
    domain.page_count = kMaxDomainPages;
    domain.config.clear();
    domain.ram.clear();
    for (Gfn gfn = 0; gfn < kMaxRamRuns; ++gfn) domain.ram.push_back({gfn * 2, 1});
    hello.domains.push_back(domain);
  }
  size_t missing = bytes - EncodeControlMessage(hello).value().size();
  for (HelloDomain& domain : hello.domains) {
    const size_t share = std::min(missing, kMaxConfigBytes);
    domain.config = std::string(share, 'c');
    missing -= share;
  }
  return hello;
}

TEST(HandshakeTest, AMessageOfTheLargestSizeGoesThroughAndALargerOneIsNotEncoded) {
  const Hello largest = HelloOfSize(kMaxControlMessageBytes);
  const absl::StatusOr<std::vector<std::byte>> bytes = EncodeControlMessage(largest);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  ASSERT_EQ(bytes->size(), kMaxControlMessageBytes);
  EXPECT_EQ(DecodeControlMessage(*bytes).value(), ControlMessage(largest));

  const absl::StatusOr<std::vector<std::byte>> larger =
      EncodeControlMessage(HelloOfSize(kMaxControlMessageBytes + 1));
  EXPECT_EQ(larger.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(larger.status().message()),
              HasSubstr("Hello: length in bytes is 1048577, must be at most 1048576"));
}

TEST(HandshakeTest, RandomHellosSurviveTheRoundTrip) {
  Random random(8);
  for (int i = 0; i < 300; ++i) {
    Hello hello = SampleHello();
    hello.session = random.Next() | 0x8000;
    hello.base_session = random.Chance(1, 2) ? 0 : 3;
    hello.base_epoch = hello.base_session == 0 ? 0 : random.Next() | 1;
    hello.slot_bytes = kMinSlotBytes << random.Below(7);
    hello.interval_ns = random.Below(kMaxDurationNs + 1);
    hello.return_address = std::string(random.Below(256), 'x');
    hello.domains.clear();
    for (uint64_t d = 1 + random.Below(kMaxDomains); d > 0; --d) {
      HelloDomain domain = SampleHello().domains[0];
      domain.name = "guest " + std::to_string(d);
      domain.uuid[0] = "0123456789abcdef"[d - 1];
      domain.config.resize(random.Below(1000));
      random.Fill(std::as_writable_bytes(std::span(domain.config)));
      domain.page_count = 1 + random.Below(kMaxDomainPages);
      domain.ram.clear();
      for (Gfn gfn = random.Below(2); gfn < domain.page_count && domain.ram.size() < 20;) {
        const uint64_t pages = 1 + random.Below(domain.page_count - gfn);
        domain.ram.push_back({gfn, pages});
        gfn += pages + random.Below(100);
      }
      if (domain.ram.empty()) domain.ram.push_back({0, 1});
      hello.domains.push_back(domain);
    }
    const absl::StatusOr<std::vector<std::byte>> bytes = EncodeControlMessage(hello);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(DecodeControlMessage(*bytes).value(), ControlMessage(hello));
  }
}

}  // namespace
}  // namespace haven
