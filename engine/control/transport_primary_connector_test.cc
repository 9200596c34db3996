// SPDX-License-Identifier: Apache-2.0
//
// The backup's connector against a primary that does what each test says.
#include "engine/control/transport_primary_connector.h"

#include <array>
#include <deque>
#include <utility>
#include <variant>
#include <vector>

#include "engine/base/check.h"
#include "engine/control/connector_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/faulty_transport_testing.h"
#include "engine/control/hello_builder.h"
#include "engine/control/message_io.h"
#include "engine/control/session_dialer.h"
#include "engine/control/session_setup.h"
#include "engine/replica/peer_block.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr SessionId kSession = 0x11;

class TransportPrimaryConnectorTest : public testing::Test {
 protected:
  TransportPrimaryConnectorTest() {
    faults_.revoke_by_word = true;
    HelloParameters parameters;
    parameters.node_id = "host-a";
    parameters.group = "web";
    parameters.slot_bytes = kMinSlotBytes;
    parameters.staging_bytes = 4 * kMinSlotBytes;
    parameters.detect_ns = kNsPerSecond;
    Domain* const domains[] = {&guest_};
    hello_ = *BuildHello(parameters, domains);
    hello_.session = kSession;

    // Both sides at once: the worker is the primary that connects.
    EXPECT_TRUE(worker_->Submit([this]() -> Worker::Finish {
      channel_ = *plain_.Connect(listener_->address(), kTestPatience);
      Say(*channel_, hello_);
      return [] {};
    }));
    absl::StatusOr<std::optional<int>> fd = std::nullopt;
    EXPECT_TRUE(WaitFor([&] { return (fd = listener_->Accept()).ok() && fd->has_value(); }));
    absl::StatusOr<SessionSetup> setup = SetUpSession(transport_, {}, factory_, **fd);
    HAVEN_CHECK_OK(setup);
    setup_ = *std::move(setup);
    worker_->WaitIdle();
    connector_ = *TransportPrimaryConnector::Create(
        transport_, {.offer = {}, .step_timeout = kTestPatience / 4, .link_timeout = kTestPatience},
        setup_.terms, setup_.memory, {std::move(setup_.channel), kSession, std::nullopt}, *door_,
        *pump_);
    endpoint_ = *plain_.MakeEndpoint(*channel_);
    peer_block_ = *endpoint_->Register(kPeerBlockBytes, RegionAccess::kRemoteWrite);
  }

  // The primary's part.
  void Say(ControlChannel& channel, const ControlMessage& message) {
    EXPECT_TRUE(SendMessage(channel, message, kTestPatience).ok());
  }
  std::unique_ptr<ControlChannel> Dial(const ControlMessage& first) {
    std::unique_ptr<ControlChannel> channel = *plain_.Connect(door_->address(), kTestPatience);
    Say(*channel, first);
    return channel;
  }
  // The next message, while the connector works.
  template <typename Message>
  Message Receive(ControlChannel& channel) {
    std::optional<ControlMessage> message;
    HAVEN_CHECK(WaitFor([&] {
      Pump();
      absl::StatusOr<std::optional<ControlMessage>> next = ReceiveMessage(channel);
      HAVEN_CHECK_OK(next);
      message = *std::move(next);
      return message.has_value();
    }));
    HAVEN_CHECK(std::holds_alternative<Message>(*message)) << ControlMessageName(*message);
    return std::get<Message>(*std::move(message));
  }
  bool IsClosed(ControlChannel& channel) {
    return WaitFor([&] {
      Pump();
      return !channel.Receive().ok();
    });
  }
  void Connect(const LinkOffer& offer) {
    for (const Blob& lane : offer.lanes) {
      absl::StatusOr<std::unique_ptr<Link>> link =
          endpoint_->ConnectLink(FromBlob(lane), kTestPatience);
      HAVEN_CHECK_OK(link);
      links_.push_back(*std::move(link));
    }
  }
  LinkRequest Request(LinkNumber number) {
    return {kSession, number, ToBlob(*endpoint_->Offer(peer_block_))};
  }

  // The backup's part.
  void Pump() {
    while (std::optional<PrimaryEvent> event = connector_->Next()) events_.push_back(*event);
  }
  template <typename Event>
  Event Expect() {
    HAVEN_CHECK(WaitFor([&] {
      Pump();
      return !events_.empty();
    }));
    PrimaryEvent event = std::move(events_.front());
    events_.pop_front();
    HAVEN_CHECK(std::holds_alternative<Event>(event)) << "event " << event.index();
    return std::get<Event>(std::move(event));
  }
  bool Quiet() {
    Pump();
    return events_.empty();
  }
  Welcome MakeWelcome(SessionId session) {
    Welcome welcome;
    welcome.agreement = setup_.terms.agreement;
    welcome.node_id = "host-b";
    welcome.session = session;
    welcome.geometry = setup_.terms.geometry;
    return welcome;
  }
  void AcceptFirst() {
    connector_->Accept(MakeWelcome(kSession));
    const Welcome welcome = Receive<Welcome>(*channel_);
    EXPECT_EQ(welcome.session_address, door_->address());
    const absl::StatusOr<RemoteRegion> journal =
        endpoint_->Import(FromBlob(welcome.journal_region), kTestPatience);
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_EQ(journal->bytes, setup_.memory->journal.bytes.size());
  }
  LinkOffer Offer(LinkNumber number) {
    connector_->OfferLink({.session = kSession,
                           .link = number,
                           .committed_epoch = 3,
                           .applied_epoch = 3,
                           .next_position = 0,
                           .ring_tail = 0,
                           .lanes = {}});
    return Receive<LinkOffer>(*channel_);
  }
  LinkMade MakeLink(LinkNumber number) {
    Say(*channel_, Request(number));
    EXPECT_EQ(Expect<LinkAsked>().number, number);
    Connect(Offer(number));
    return Expect<LinkMade>();
  }

  TransportFaults faults_;
  ShmTransport plain_;
  FaultyTransport transport_{plain_, faults_};
  TestWire wire_;
  TestGuest guest_{"g1", 64, wire_};
  TestReplicaFactory factory_;
  Hello hello_;
  const std::unique_ptr<Listener> listener_ = *plain_.Listen("");
  const std::unique_ptr<Worker> worker_ = *Worker::Start("test");
  const std::unique_ptr<HeartbeatPump> pump_ = *HeartbeatPump::Start(1 * kNsPerMs);
  const std::unique_ptr<SessionDoor> door_ = *SessionDoor::Open(transport_, "", absl::Seconds(5));
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Endpoint> endpoint_;
  LocalRegion peer_block_;
  std::vector<std::unique_ptr<Link>> links_;
  SessionSetup setup_;
  std::unique_ptr<TransportPrimaryConnector> connector_;
  std::deque<PrimaryEvent> events_;
};

TEST_F(TransportPrimaryConnectorTest, WelcomesAndMakesALink) {
  AcceptFirst();
  const LinkMade made = MakeLink(1);
  EXPECT_EQ(made.number, 1u);
  EXPECT_EQ(made.data, connector_->data_link());
  EXPECT_NE(made.beats, nullptr);
  EXPECT_GE(made.peer_block.bytes, kPeerBlockBytes);
  Say(*channel_, LinkReady{kSession, 1});
  Say(*channel_, Handover{kSession, 5});
  EXPECT_TRUE(std::holds_alternative<Handover>(Expect<PrimarySaid>().message));
}

TEST_F(TransportPrimaryConnectorTest, NothingIsSaidBeforeTheWelcome) {
  const HeartbeatMessage beat = {kSession, HeartbeatSender::kBackup,
                                 static_cast<uint32_t>(BackupState::kSyncing), 1};
  connector_->Send(beat);
  connector_->Accept(MakeWelcome(kSession));
  connector_->Send(beat);
  Receive<Welcome>(*channel_);
}

TEST_F(TransportPrimaryConnectorTest, ReadsOneMessageEachTimeItsOwnerHasSeenItReadable) {
  AcceptFirst();
  ExpectOneMessageAWait<PrimarySaid>(*connector_, *channel_,
                                     {.session = kSession,
                                      .sender = HeartbeatSender::kPrimary,
                                      .state = static_cast<uint32_t>(PrimaryState::kSyncing)});
}

TEST_F(TransportPrimaryConnectorTest, ALaterLinkReplacesTheOneBefore) {
  AcceptFirst();
  MakeLink(1);
  const LinkMade second = MakeLink(2);
  EXPECT_EQ(second.data, connector_->data_link());
  // The first one's lanes are closed here.
  std::array<Completion, 4> completions;
  EXPECT_TRUE(WaitFor([&] { return links_[0]->Poll(completions) > 0; }));
  EXPECT_EQ(completions[0].result, CompletionResult::kRetry);
}

TEST_F(TransportPrimaryConnectorTest, LanesThatNobodyTookEndTheChannelNotTheSession) {
  AcceptFirst();
  Say(*channel_, Request(1));
  Expect<LinkAsked>();
  Offer(1);
  Say(*channel_, Request(2));
  EXPECT_TRUE(IsClosed(*channel_));
  EXPECT_FALSE(connector_->channel_error().ok());
  connector_->CloseLinks();
  events_.clear();
  // On a new channel the lanes of before are forgotten.
  channel_ = *plain_.Connect(door_->address(), kTestPatience);
  ASSERT_TRUE(plain_.Attach(*endpoint_, *channel_).ok());
  const LinkMade made = MakeLink(3);
  EXPECT_EQ(made.number, 3u);
}

TEST_F(TransportPrimaryConnectorTest, AnOfferThatWasSupersededNeverShows) {
  AcceptFirst();
  Say(*channel_, Request(1));
  Expect<LinkAsked>();
  const LinkOffer offer = Offer(1);
  connector_->CloseLinks();
  Connect(offer);
  // Waits for what is under way.
  EXPECT_TRUE(connector_->Revoke().ok());
  EXPECT_TRUE(Quiet());
  EXPECT_EQ(connector_->data_link(), nullptr);
}

TEST_F(TransportPrimaryConnectorTest, AnOfferThatNobodyHasAskedForIsUnmade) {
  AcceptFirst();
  connector_->OfferLink({.session = kSession, .link = 1, .lanes = {}});
  const LinkUnmade unmade = Expect<LinkUnmade>();
  EXPECT_EQ(unmade.number, 1u);
  EXPECT_THAT(std::string(unmade.cause.message()), HasSubstr("nobody has asked"));
}

TEST_F(TransportPrimaryConnectorTest, APrimaryThatGoesAfterOneLaneUnmakesTheLink) {
  AcceptFirst();
  Say(*channel_, Request(1));
  Expect<LinkAsked>();
  LinkOffer offer = Offer(1);
  offer.lanes.pop_back();
  Connect(offer);
  endpoint_.reset();
  const LinkUnmade unmade = Expect<LinkUnmade>();
  EXPECT_EQ(unmade.number, 1u);
  EXPECT_TRUE(absl::IsUnavailable(unmade.cause)) << unmade.cause;
  EXPECT_EQ(connector_->data_link(), nullptr);
  // It could have written: there is a lane to cut off.
  EXPECT_TRUE(connector_->Revoke().ok());
  EXPECT_EQ(faults_.revoked, 1u);
}

TEST_F(TransportPrimaryConnectorTest, ARequestForAnotherSessionChangesNothing) {
  AcceptFirst();
  const LinkMade made = MakeLink(1);
  const std::unique_ptr<ControlChannel> stranger = Dial(LinkRequest{kSession + 1, 1, Blob(8)});
  EXPECT_THAT(Receive<Refuse>(*stranger).message, HasSubstr("session 11, not in 12"));
  EXPECT_TRUE(IsClosed(*stranger));
  EXPECT_EQ(connector_->data_link(), made.data);
  Say(*channel_, Handover{kSession, 5});
  Expect<PrimarySaid>();
}

TEST_F(TransportPrimaryConnectorTest, AChannelForTheLinkThereIsTakesTheOldOnesPlace) {
  AcceptFirst();
  const LinkMade made = MakeLink(3);
  const std::unique_ptr<ControlChannel> old = std::exchange(channel_, Dial(LinkReady{kSession, 3}));
  EXPECT_TRUE(IsClosed(*old));
  EXPECT_EQ(connector_->data_link(), made.data);
  connector_->Send(Drop{kSession, DropReason::kInternal, "heard"});
  EXPECT_EQ(Receive<Drop>(*channel_).message, "heard");
  Say(*channel_, Handover{kSession, 5});
  Expect<PrimarySaid>();
  // The next link is made on it.
  ASSERT_TRUE(plain_.Attach(*endpoint_, *channel_).ok());
  EXPECT_EQ(MakeLink(4).number, 4u);
}

TEST_F(TransportPrimaryConnectorTest, AChannelForAnotherLinkOrSessionChangesNothing) {
  AcceptFirst();
  MakeLink(3);
  for (const LinkReady& ready : {LinkReady{kSession, 2}, LinkReady{kSession, 4}}) {
    const std::unique_ptr<ControlChannel> late = Dial(ready);
    EXPECT_THAT(Receive<Refuse>(*late).message, HasSubstr("is not the newest one of group web, 3"));
    EXPECT_TRUE(IsClosed(*late)) << ready.link;
  }
  const std::unique_ptr<ControlChannel> stranger = Dial(LinkReady{kSession + 1, 3});
  EXPECT_EQ(Receive<Refuse>(*stranger).code, RefuseCode::kNotReady);
  EXPECT_TRUE(IsClosed(*stranger));
  Say(*channel_, Handover{kSession, 5});
  Expect<PrimarySaid>();
}

TEST_F(TransportPrimaryConnectorTest, AFloodOfUselessMessagesEndsTheChannel) {
  AcceptFirst();
  // All of them fit into the channel before one is read.
  const LinkReady useless = {kSession, 9};
  constexpr int kMost = TransportPrimaryConnector::kMaxMessagesPerCall;
  for (int i = 0; i < kMost; ++i) Say(*channel_, useless);
  EXPECT_TRUE(Quiet());
  EXPECT_TRUE(connector_->channel_error().ok()) << "as many as are borne";
  for (int i = 0; i <= kMost; ++i) Say(*channel_, useless);
  EXPECT_TRUE(IsClosed(*channel_));
  EXPECT_THAT(std::string(connector_->channel_error().message()), HasSubstr("floods"));
}

TEST_F(TransportPrimaryConnectorTest, APeerBlockThatIsNoneIsRefused) {
  AcceptFirst();
  Say(*channel_, LinkRequest{kSession, 1, Blob(8)});
  EXPECT_EQ(Receive<Refuse>(*channel_).code, RefuseCode::kMemory);
  Say(*channel_, LinkRequest{kSession + 1, 1, Blob(8)});
  EXPECT_EQ(Receive<Refuse>(*channel_).code, RefuseCode::kNotReady);
  EXPECT_TRUE(Quiet());
}

TEST_F(TransportPrimaryConnectorTest, WhatIsNotForABackupEndsTheChannel) {
  AcceptFirst();
  Say(*channel_, Promoted{kSession, 2});
  EXPECT_TRUE(IsClosed(*channel_));
  EXPECT_THAT(std::string(connector_->channel_error().message()), HasSubstr("sends Promoted"));
}

TEST_F(TransportPrimaryConnectorTest, AnotherHelloIsDeliveredAndAnsweredOnItsOwnChannel) {
  AcceptFirst();
  hello_.session = kSession + 1;
  const std::unique_ptr<ControlChannel> first = Dial(hello_);
  EXPECT_EQ(Expect<HelloArrived>().hello.session, kSession + 1);
  hello_.session = kSession + 2;
  const std::unique_ptr<ControlChannel> second = Dial(hello_);
  EXPECT_EQ(Expect<HelloArrived>().hello.session, kSession + 2);
  // No room for a third.
  hello_.session = kSession + 3;
  const std::unique_ptr<ControlChannel> third = Dial(hello_);
  EXPECT_EQ(Receive<Refuse>(*third).code, RefuseCode::kNotReady);

  connector_->Refuse({RefuseCode::kNotReady, "not you"});
  EXPECT_EQ(Receive<Refuse>(*second).message, "not you");
  Say(*channel_, Handover{kSession, 1});
  Expect<PrimarySaid>();
  connector_->Accept(MakeWelcome(kSession + 1));
  EXPECT_EQ(Receive<Welcome>(*first).session, kSession + 1);
  EXPECT_TRUE(IsClosed(*channel_)) << "there is one channel";
}

TEST_F(TransportPrimaryConnectorTest, RevokeCutsOffWhateverThereIs) {
  EXPECT_TRUE(connector_->Revoke().ok()) << "nobody could write yet";
  EXPECT_EQ(faults_.revoked, 0u);
  AcceptFirst();
  MakeLink(1);
  EXPECT_TRUE(connector_->Revoke().ok());
  EXPECT_EQ(faults_.revoked, 2u);
}

TEST_F(TransportPrimaryConnectorTest, RevokeNeedsNoOpenLink) {
  AcceptFirst();
  MakeLink(1);
  connector_->CloseLinks();
  EXPECT_TRUE(connector_->Revoke().ok());
  EXPECT_EQ(faults_.revoked, 1u) << "the kept lane";
}

TEST_F(TransportPrimaryConnectorTest, RevokeHasItsProofWhileTheNextLinkIsBeingMade) {
  AcceptFirst();
  MakeLink(1);
  Say(*channel_, Request(2));
  Expect<LinkAsked>();
  Offer(2);
  EXPECT_TRUE(connector_->Revoke().ok());
  EXPECT_EQ(faults_.revoked, 1u) << "the lane of link 1";
  EXPECT_TRUE(Quiet());
}

TEST_F(TransportPrimaryConnectorTest, ARevokeWithoutProofFails) {
  faults_.revoke_by_word = false;
  AcceptFirst();
  MakeLink(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(connector_->Revoke()))
      << "this process can not kill itself as a proof";
}

}  // namespace
}  // namespace haven
