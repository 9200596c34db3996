// SPDX-License-Identifier: Apache-2.0
//
// The envelope, and the messages within a session; handshake_test.cc has the others.
#include "engine/replica/control_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "engine/base/random.h"
#include "engine/replica/control_message_testing.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0x1122334455667788;

struct Golden {
  ControlMessage message;
  std::string_view name;
  std::string_view hex;
};

std::vector<Golden> Goldens() {
  return {
      {LinkRequest{.session = kSession, .link = 3, .peer_region = FromHex("0a")}, "LinkRequest",
       kLinkRequest},
      {LinkOffer{.session = kSession,
                 .link = 3,
                 .committed_epoch = 9,
                 .applied_epoch = 8,
                 .next_position = 20,
                 .ring_tail = 17,
                 .lanes = {FromHex("01"), {}}},
       "LinkOffer", kLinkOffer},
      {LinkReady{.session = kSession, .link = 3}, "LinkReady", kLinkReady},
      {ExtentRequest{.session = kSession, .link = 3, .epoch = 9, .extents = 2}, "ExtentRequest",
       kExtentRequest},
      {ExtentGrant{.session = kSession, .link = 3, .epoch = 9, .extents = {3, 1}}, "ExtentGrant",
       kExtentGrant},
      {HeartbeatMessage{
           .session = kSession, .sender = HeartbeatSender::kBackup, .state = 2, .counter = 70},
       "Heartbeat", kHeartbeat},
      {Handover{.session = kSession, .epoch = 9}, "Handover", kHandover},
      {HandoverRefused{.session = kSession, .reason = "busy"}, "HandoverRefused", kHandoverRefused},
      {Promoted{.session = kSession, .term = 7}, "Promoted", kPromoted},
      {Drop{.session = kSession, .reason = DropReason::kVerification, .message = "bad"}, "Drop",
       kDrop},
  };
}

TEST(ControlMessageTest, EncodesToTheDocumentedBytes) {
  for (const Golden& golden : Goldens()) {
    EXPECT_EQ(ControlMessageName(golden.message), absl::string_view(golden.name.data()));
    EXPECT_EQ(ToHex(EncodeControlMessage(golden.message).value()), golden.hex) << golden.name;
  }
}

TEST(ControlMessageTest, DecodesTheDocumentedBytes) {
  for (const Golden& golden : Goldens()) {
    EXPECT_EQ(DecodeControlMessage(FromHex(golden.hex)).value(), golden.message) << golden.name;
  }
}

TEST(ControlMessageTest, EveryTruncationAndEveryExtraByteIsRefused) {
  for (const Golden& golden : Goldens()) {
    const std::vector<std::byte> whole = FromHex(golden.hex);
    for (size_t length = 0; length < whole.size(); ++length) {
      std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      EXPECT_FALSE(DecodeControlMessage(cut).ok()) << golden.name << " " << length;
      if (length < kControlEnvelopeBytes) continue;
      Poke(cut, 8, 4, length - kControlEnvelopeBytes);
      EXPECT_THAT(std::string(DecodeControlMessage(cut).status().message()), HasSubstr(" needs "))
          << golden.name << " " << length;
    }
    std::vector<std::byte> longer = whole;
    longer.push_back(std::byte{0});
    EXPECT_THAT(std::string(DecodeControlMessage(longer).status().message()),
                HasSubstr("body length is "))
        << golden.name;
    Poke(longer, 8, 4, longer.size() - kControlEnvelopeBytes);
    EXPECT_THAT(std::string(DecodeControlMessage(longer).status().message()),
                HasSubstr("bytes behind the last field is 1,"))
        << golden.name;
  }
}

TEST(ControlMessageTest, TheEnvelopeTellsTheSizeBeforeTheBodyIsThere) {
  for (const Golden& golden : Goldens()) {
    const std::vector<std::byte> whole = FromHex(golden.hex);
    EXPECT_EQ(ControlMessageBytes(std::span(whole).first(kControlEnvelopeBytes)).value(),
              whole.size());
    EXPECT_FALSE(ControlMessageBytes(std::span(whole).first(kControlEnvelopeBytes - 1)).ok());
  }
}

struct Damage {
  std::string_view message;
  size_t offset;
  size_t width;
  uint64_t value;
  std::string error;
};

void ExpectRefused(const Damage& damage) {
  std::vector<std::byte> bytes = FromHex(damage.message);
  Poke(bytes, damage.offset, damage.width, damage.value);
  const absl::StatusOr<ControlMessage> message = DecodeControlMessage(bytes);
  EXPECT_EQ(message.status().code(), absl::StatusCode::kInvalidArgument) << damage.error;
  EXPECT_THAT(std::string(message.status().message()), HasSubstr(damage.error));
}

TEST(ControlMessageTest, EachWrongFieldOfTheEnvelopeIsNamed) {
  const Damage cases[] = {
      {kHandover, 0, 4, 0, "control message: magic is 0,"},
      {kHandover, 4, 2, 2, "control message: envelope version is 2,"},
      {kHandover, 6, 2, 0, "control message: type is 0, must be 1 .. 13"},
      {kHandover, 6, 2, 14, "control message: type is 14, must be 1 .. 13"},
      {kHandover, 8, 4, (1 << 20) - 11, "control message: body length is 1048565, must be at most"},
      {kHandover, 8, 4, UINT32_MAX, "control message: body length is 4294967295,"},
      {kHandover, 8, 4, 15, "Handover: body length is 15, must be the bytes that are there, 16"},
      {kHandover, 8, 4, 17, "Handover: body length is 17,"},
  };
  for (const Damage& damage : cases) {
    ExpectRefused(damage);
    if (damage.offset == 8 && damage.value < 100) continue;
    std::vector<std::byte> envelope = FromHex(damage.message);
    Poke(envelope, damage.offset, damage.width, damage.value);
    EXPECT_THAT(std::string(ControlMessageBytes(envelope).status().message()),
                HasSubstr(damage.error));
  }
}

TEST(ControlMessageTest, EachWrongFieldIsNamed) {
  const Damage cases[] = {
      {kLinkRequest, 12, 8, 0, "LinkRequest: session is 0,"},
      {kLinkRequest, 20, 4, 0, "LinkRequest: link is 0,"},
      {kLinkRequest, 24, 4, 4097, "LinkRequest: peer_region has length 4097,"},
      {kLinkOffer, 12, 8, 0, "LinkOffer: session is 0,"},
      {kLinkOffer, 20, 4, 0, "LinkOffer: link is 0,"},
      {kLinkOffer, 32, 8, 10, "LinkOffer: applied_epoch is 10, must be at most committed_epoch"},
      {kLinkOffer, 48, 8, 21, "LinkOffer: ring_tail is 21, must be at most next_position"},
      {kLinkOffer, 56, 4, 0, "LinkOffer: lanes has length 0, must be 1 .. 4"},
      {kLinkOffer, 56, 4, 5, "LinkOffer: lanes has length 5, must be 1 .. 4"},
      {kLinkOffer, 56, 4, 3, "LinkOffer: lanes[2] needs 4 bytes, 0 are left"},
      {kLinkOffer, 60, 4, 4097, "LinkOffer: lanes[0] has length 4097,"},
      {kLinkReady, 12, 8, 0, "LinkReady: session is 0,"},
      {kLinkReady, 20, 4, 0, "LinkReady: link is 0,"},
      {kExtentRequest, 12, 8, 0, "ExtentRequest: session is 0,"},
      {kExtentRequest, 20, 4, 0, "ExtentRequest: link is 0,"},
      {kExtentRequest, 24, 8, 0, "ExtentRequest: epoch is 0,"},
      {kExtentRequest, 32, 4, 0, "ExtentRequest: extents is 0,"},
      {kExtentRequest, 32, 4, 65, "ExtentRequest: extents is 65,"},
      {kExtentGrant, 12, 8, 0, "ExtentGrant: session is 0,"},
      {kExtentGrant, 20, 4, 0, "ExtentGrant: link is 0,"},
      {kExtentGrant, 24, 8, 0, "ExtentGrant: epoch is 0,"},
      {kExtentGrant, 32, 4, 65, "ExtentGrant: extents has length 65,"},
      {kExtentGrant, 36, 4, 1 << 24, "ExtentGrant: extents[0] is 16777216,"},
      {kExtentGrant, 40, 4, 3, "ExtentGrant: extents[1] is 3, must be named only once"},
      {kHeartbeat, 12, 8, 0, "Heartbeat: session is 0,"},
      {kHeartbeat, 20, 1, 0, "Heartbeat: sender is 0,"},
      {kHeartbeat, 20, 1, 3, "Heartbeat: sender is 3,"},
      {kHeartbeat, 21, 4, 0, "Heartbeat: state is 0,"},
      {kHeartbeat, 21, 4, 6, "Heartbeat: state is 6, must be a known state of the sender"},
      {kHeartbeat, 25, 8, 0, "Heartbeat: counter is 0,"},
      {kHandover, 12, 8, 0, "Handover: session is 0,"},
      {kHandover, 20, 8, 0, "Handover: epoch is 0,"},
      {kHandoverRefused, 12, 8, 0, "HandoverRefused: session is 0,"},
      {kHandoverRefused, 20, 4, 1025, "HandoverRefused: reason has length 1025,"},
      {kHandoverRefused, 24, 1, 0, "HandoverRefused: reason has byte 0x00 at offset 0"},
      {kPromoted, 12, 8, 0, "Promoted: session is 0,"},
      {kPromoted, 20, 8, 0, "Promoted: term is 0,"},
      {kDrop, 12, 8, 0, "Drop: session is 0,"},
      {kDrop, 20, 2, 0, "Drop: reason is 0,"},
      {kDrop, 20, 2, 10, "Drop: reason is 10,"},
      {kDrop, 22, 4, 1025, "Drop: message has length 1025,"},
      {kDrop, 26, 1, 0x9b, "Drop: message has byte 0x9b at offset 0"},
  };
  for (const Damage& damage : cases) ExpectRefused(damage);
}

TEST(ControlMessageTest, ATextAlwaysArrivesCutAndPrintable) {
  const std::string long_text(2000, 'x');
  const Drop drop = {.session = 1, .reason = DropReason::kInternal, .message = long_text};
  ControlMessage read = DecodeControlMessage(EncodeControlMessage(drop).value()).value();
  EXPECT_EQ(std::get<Drop>(read).message, std::string(kMaxTextBytes, 'x'));

  const HandoverRefused refused = {.session = 1, .reason = "line\nbell\a\xc3\xa4"};
  read = DecodeControlMessage(EncodeControlMessage(refused).value()).value();
  EXPECT_EQ(std::get<HandoverRefused>(read).reason, "line?bell???");
}

TEST(ControlMessageTest, WhatBreaksARuleIsNotEncoded) {
  const std::vector<std::pair<ControlMessage, std::string>> cases = {
      {LinkReady{.session = 1, .link = 0}, "LinkReady: link is 0,"},
      {LinkRequest{.session = 1, .link = 1, .peer_region = Blob(4097)},
       "LinkRequest: peer_region has length 4097,"},
      {LinkOffer{.session = 1, .link = 1, .lanes = {}}, "LinkOffer: lanes has length 0,"},
      {ExtentGrant{.session = 1, .link = 1, .epoch = 1, .extents = {5, 5}},
       "ExtentGrant: extents[1] is 5,"},
      {HeartbeatMessage{.session = 1, .state = 7, .counter = 1}, "Heartbeat: state is 7,"},
      {Refuse{.code = static_cast<RefuseCode>(11), .message = ""}, "Refuse: code is 11,"},
      {Welcome{}, "Welcome: version is 0,"},
  };
  for (const auto& [message, error] : cases) {
    const absl::StatusOr<std::vector<std::byte>> encoded = EncodeControlMessage(message);
    EXPECT_EQ(encoded.status().code(), absl::StatusCode::kInvalidArgument) << error;
    EXPECT_THAT(std::string(encoded.status().message()), HasSubstr(error));
  }
}

TEST(ControlMessageTest, LargestMessagesSurviveTheRoundTrip) {
  LinkOffer offer = {.session = UINT64_MAX,
                     .link = UINT32_MAX,
                     .committed_epoch = UINT64_MAX,
                     .applied_epoch = UINT64_MAX,
                     .next_position = UINT64_MAX,
                     .ring_tail = UINT64_MAX,
                     .lanes = std::vector<Blob>(kMaxLanes, Blob(kMaxBlobBytes))};
  Random random(9);
  for (Blob& lane : offer.lanes) random.Fill(lane);
  EXPECT_EQ(DecodeControlMessage(EncodeControlMessage(offer).value()).value(),
            ControlMessage(offer));
  ExtentGrant grant = {.session = 1, .link = 1, .epoch = 1, .extents = {}};
  for (uint32_t i = 0; i < kMaxEpochExtents; ++i) grant.extents.push_back((1 << 24) - 1 - i);
  EXPECT_EQ(DecodeControlMessage(EncodeControlMessage(grant).value()).value(),
            ControlMessage(grant));
}

TEST(ControlMessageTest, EveryCodeHasAWordOfItsOwn) {
  std::set<std::string> refusals;
  for (uint16_t code = 1; code <= 10; ++code) {
    refusals.insert(std::string(RefuseCodeName(static_cast<RefuseCode>(code))));
  }
  EXPECT_EQ(refusals.size(), 10u);
  EXPECT_EQ(refusals.count("unknown"), 0u);
  EXPECT_EQ(RefuseCodeName(static_cast<RefuseCode>(11)), "unknown");
  std::set<std::string> drops;
  for (uint16_t reason = 1; reason <= 9; ++reason) {
    drops.insert(std::string(DropReasonName(static_cast<DropReason>(reason))));
  }
  EXPECT_EQ(drops.size(), 9u);
  EXPECT_EQ(drops.count("unknown"), 0u);
  EXPECT_EQ(DropReasonName(static_cast<DropReason>(10)), "unknown");
}

}  // namespace
}  // namespace haven
