// SPDX-License-Identifier: Apache-2.0
//
// The primary's connector against a backup that does what each test says.
#include "engine/control/transport_backup_connector.h"

#include <functional>
#include <utility>
#include <variant>

#include "engine/base/check.h"
#include "engine/control/connector_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/hello_builder.h"
#include "engine/control/message_io.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr SessionId kSession = 0x11;
constexpr ReplicaBase kNoBase;

class TransportBackupConnectorTest : public testing::Test {
 protected:
  TransportBackupConnectorTest() {
    HelloParameters parameters;
    parameters.node_id = "host-a";
    parameters.group = "web";
    parameters.slot_bytes = kMinSlotBytes;
    parameters.staging_bytes = 4 * kMinSlotBytes;
    parameters.detect_ns = kNsPerSecond;
    Domain* const domains[] = {&guest_};
    DialOptions options;
    options.backup_address = listener_->address();
    options.hello = *BuildHello(parameters, domains);
    options.staging_bytes = parameters.staging_bytes;
    options.session_timeout = kTestPatience;
    options.open_timeout = kTestPatience;
    options.step_timeout = kTestPatience / 4;
    connector_ = *TransportBackupConnector::Create(transport_, std::move(options), *pump_);
  }

  // The backup's part.
  std::unique_ptr<ControlChannel> Accept(Listener& listener) {
    absl::StatusOr<std::optional<int>> fd = std::nullopt;
    EXPECT_TRUE(WaitFor([&] { return (fd = listener.Accept()).ok() && fd->has_value(); }));
    absl::StatusOr<std::unique_ptr<ControlChannel>> channel = transport_.Adopt(**fd, kTestPatience);
    HAVEN_CHECK_OK(channel);
    return *std::move(channel);
  }
  template <typename Message>
  Message Receive(ControlChannel& channel) {
    const std::shared_ptr<Cancel> never = *Cancel::Create();
    absl::StatusOr<ControlMessage> message =
        WaitForMessage(channel, TimeLimit(kTestPatience), *never);
    HAVEN_CHECK_OK(message);
    HAVEN_CHECK(std::holds_alternative<Message>(*message)) << ControlMessageName(*message);
    return std::get<Message>(*std::move(message));
  }
  void Say(ControlChannel& channel, const ControlMessage& message) {
    EXPECT_TRUE(SendMessage(channel, message, kTestPatience).ok());
  }
  Welcome MakeWelcome(const Hello& hello) {
    Welcome welcome;
    welcome.agreement = {.version = 1, .features = 0};
    welcome.node_id = "host-b";
    welcome.session = hello.session;
    welcome.geometry.slot_bytes = hello.slot_bytes;
    welcome.geometry.ring_slots = 2 * hello.max_epoch_slots;
    welcome.session_address = session_listener_->address();
    welcome.journal_region = ToBlob(*endpoint_->Offer(journal_));
    return welcome;
  }
  Hello MeetPrimary() {
    channel_ = Accept(*listener_);
    endpoint_ = *transport_.MakeEndpoint(*channel_);
    journal_ = *endpoint_->Register(kControlBlockBytes + uint64_t{8} * kMinSlotBytes,
                                    RegionAccess::kRemoteWrite);
    return Receive<Hello>(*channel_);
  }
  void AgreeOnSession() {
    connector_->OpenSession(kSession, kNoBase);
    Say(*channel_, MakeWelcome(MeetPrimary()));
  }
  LinkOffer MakeOffer(const LinkRequest& request) {
    LinkOffer offer;
    offer.session = request.session;
    offer.link = request.link;
    offer.committed_epoch = 7;
    offer.applied_epoch = 6;
    offer.next_position = 9;
    offer.ring_tail = 8;
    for (size_t i = 0; i < kLinkLanes; ++i)
      offer.lanes.push_back(ToBlob(*endpoint_->PrepareLink()));
    return offer;
  }
  // Waits until the connector has read `channel`, or turned its back on it.
  bool IsClosed(ControlChannel& channel) {
    return WaitFor([&] {
      connector_->Next();
      return !channel.Receive().ok();
    });
  }

  // The primary's part.
  ConnectorEvent NextEvent() {
    std::optional<ConnectorEvent> event;
    HAVEN_CHECK(WaitFor([&] { return (event = connector_->Next()).has_value(); }));
    return *std::move(event);
  }
  template <typename Event>
  Event Expect() {
    ConnectorEvent event = NextEvent();
    HAVEN_CHECK(std::holds_alternative<Event>(event)) << "event " << event.index();
    return std::get<Event>(std::move(event));
  }
  std::string FailureText() { return std::string(Expect<SessionFailed>().cause.message()); }

  ShmTransport transport_;
  TestWire wire_;
  TestGuest guest_{"g1", 64, wire_};
  const std::unique_ptr<Listener> listener_ = *transport_.Listen("");
  std::unique_ptr<Listener> session_listener_ = *transport_.Listen("");
  const std::unique_ptr<HeartbeatPump> pump_ = *HeartbeatPump::Start(1 * kNsPerMs);
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Endpoint> endpoint_;
  LocalRegion journal_;
  std::unique_ptr<TransportBackupConnector> connector_;
};

TEST_F(TransportBackupConnectorTest, AgreesOnASessionAndOpensALink) {
  AgreeOnSession();
  const SessionOpened opened = Expect<SessionOpened>();
  EXPECT_EQ(opened.memory.session, kSession);
  EXPECT_EQ(opened.memory.staging.bytes.size(), 4 * kMinSlotBytes);
  EXPECT_EQ(opened.memory.domain_count, 1u);
  EXPECT_FALSE(opened.base_accepted);
  connector_->OpenLink(1);
  LinkRequest request;
  ASSERT_TRUE(WaitFor([&] {
    connector_->Next();
    const auto message = ReceiveMessage(*channel_);
    if (!message.ok() || !message->has_value()) return false;
    request = std::get<LinkRequest>(**message);
    return true;
  }));
  EXPECT_EQ(request.link, 1u);
  Say(*channel_, MakeOffer(request));
  const LinkOpened link = Expect<LinkOpened>();
  EXPECT_EQ(link.number, 1u);
  EXPECT_EQ(link.committed, 7u);
  EXPECT_EQ(link.next_position, 9u);
  EXPECT_EQ(link.ring_tail, 8u);
  EXPECT_EQ(link.data, connector_->data_link());
  EXPECT_NE(link.beats, nullptr);
  EXPECT_EQ(Receive<LinkReady>(*channel_).link, 1u);
  connector_->CloseLink();
  EXPECT_EQ(connector_->data_link(), nullptr);
  EXPECT_TRUE(connector_->has_channel());
}

TEST_F(TransportBackupConnectorTest, ReadsOneMessageEachTimeItsOwnerHasSeenItReadable) {
  AgreeOnSession();
  Expect<SessionOpened>();
  ExpectOneMessageAWait<MessageArrived>(*connector_, *channel_,
                                        {.session = kSession,
                                         .sender = HeartbeatSender::kBackup,
                                         .state = static_cast<uint32_t>(BackupState::kSyncing)});
}

TEST_F(TransportBackupConnectorTest, ASupersededAttemptNeverShows) {
  connector_->OpenSession(kSession, kNoBase);
  const std::unique_ptr<ControlChannel> first = Accept(*listener_);
  EXPECT_EQ(Receive<Hello>(*first).session, kSession);
  connector_->OpenSession(kSession + 1, kNoBase);
  const Hello hello = MeetPrimary();
  EXPECT_EQ(hello.session, kSession + 1);
  EXPECT_FALSE(connector_->Next().has_value());
  Say(*channel_, MakeWelcome(hello));
  EXPECT_EQ(Expect<SessionOpened>().memory.session, kSession + 1);
  EXPECT_FALSE(connector_->Next().has_value());
}

TEST_F(TransportBackupConnectorTest, ASessionThatComesTooLateIsDropped) {
  connector_->OpenSession(kSession, kNoBase);
  const Hello hello = MeetPrimary();
  Say(*channel_, MakeWelcome(hello));
  // The worker has its session by now, or finds the attempt cancelled: the backup hears of it
  // either way.
  connector_->CloseLink();
  ASSERT_TRUE(WaitFor([&] {
    EXPECT_FALSE(connector_->Next().has_value());
    const auto message = ReceiveMessage(*channel_);
    if (!message.ok()) return true;  // Closed before the Welcome was read.
    if (!message->has_value()) return false;
    EXPECT_EQ(std::get<Drop>(**message).session, kSession);
    return true;
  }));
}

TEST_F(TransportBackupConnectorTest, RefusalsAreToldWithTheirReason) {
  connector_->OpenSession(kSession, kNoBase);
  MeetPrimary();
  Say(*channel_, Refuse{RefuseCode::kMemory, "only 3 GiB here"});
  const SessionFailed failed = Expect<SessionFailed>();
  EXPECT_EQ(failed.session, kSession);
  EXPECT_EQ(failed.cause.message(), "the peer refuses (memory): only 3 GiB here");
  EXPECT_TRUE(absl::IsFailedPrecondition(failed.cause));
}

TEST_F(TransportBackupConnectorTest, AWelcomeThatDoesNotFitIsDropped) {
  const std::vector<std::pair<std::string, std::function<void(Welcome&)>>> lies = {
      {"another session", [](Welcome& w) { w.session = 99; }},
      {"format version", [](Welcome& w) { w.agreement.version = 9; }},
      {"features", [](Welcome& w) { w.agreement.features = 1 << 9; }},
      {"slots of", [](Welcome& w) { w.geometry.slot_bytes *= 2; }},
      {"base epoch", [](Welcome& w) { w.base_accepted = true, w.base_epoch = 3; }},
      {"journal has", [](Welcome& w) { w.geometry.ring_slots = 100; }},
      {"", [](Welcome& w) { w.journal_region = Blob(7); }},
  };
  for (const auto& [complaint, lie] : lies) {
    connector_->OpenSession(kSession, kNoBase);
    Welcome welcome = MakeWelcome(MeetPrimary());
    lie(welcome);
    Say(*channel_, welcome);
    EXPECT_THAT(FailureText(), HasSubstr(complaint));
    EXPECT_EQ(Receive<Drop>(*channel_).session, kSession);
  }
}

TEST_F(TransportBackupConnectorTest, GarbageInPlaceOfAnAnswer) {
  connector_->OpenSession(kSession, kNoBase);
  MeetPrimary();
  ASSERT_TRUE(channel_->Send(std::vector<std::byte>(64), kTestPatience).ok());
  EXPECT_THAT(FailureText(), HasSubstr("garbage"));
  connector_->OpenSession(kSession, kNoBase);
  MeetPrimary();
  Say(*channel_, Promoted{kSession, 2});
  EXPECT_THAT(FailureText(), HasSubstr("answers Hello with Promoted"));
  connector_->OpenSession(kSession, kNoBase);
  MeetPrimary();
  endpoint_.reset();
  channel_.reset();
  EXPECT_THAT(FailureText(), HasSubstr("closed"));
}

TEST_F(TransportBackupConnectorTest, TheOldAddressIsAskedFirst) {
  AgreeOnSession();
  Expect<SessionOpened>();
  connector_->DropSession();
  connector_->OpenSession(kSession + 1, {kSession, 41});
  const std::unique_ptr<ControlChannel> again = Accept(*session_listener_);
  const Hello hello = Receive<Hello>(*again);
  EXPECT_EQ(hello.base_session, kSession);
  EXPECT_EQ(hello.base_epoch, 41u);
  Say(*again, Refuse{RefuseCode::kNotReady, "busy"});
  EXPECT_THAT(FailureText(), HasSubstr("busy"));
  // It lives: it is asked again, and its word accepted with the memory of before.
  connector_->OpenSession(kSession + 2, {kSession, 41});
  const std::unique_ptr<ControlChannel> third = Accept(*session_listener_);
  const Hello last = Receive<Hello>(*third);
  ASSERT_TRUE(transport_.Attach(*endpoint_, *third).ok());
  Welcome welcome = MakeWelcome(last);
  welcome.base_accepted = true;
  welcome.base_epoch = 41;
  Say(*third, welcome);
  EXPECT_TRUE(Expect<SessionOpened>().base_accepted);
}

TEST_F(TransportBackupConnectorTest, AnUnfitOldProcessIsPassedOver) {
  AgreeOnSession();
  Expect<SessionOpened>();
  connector_->DropSession();
  connector_->OpenSession(kSession + 1, {kSession, 41});
  const std::unique_ptr<ControlChannel> again = Accept(*session_listener_);
  Receive<Hello>(*again);
  Say(*again, Refuse{RefuseCode::kDomain, "other guests"});
  Say(*channel_, MakeWelcome(MeetPrimary()));
  EXPECT_EQ(Expect<SessionOpened>().memory.session, kSession + 1);
}

// A session is there; what happens while a link is being opened.
class OpeningLinkTest : public TransportBackupConnectorTest {
 protected:
  OpeningLinkTest() {
    AgreeOnSession();
    Expect<SessionOpened>();
  }
  LinkRequest AskForLink(LinkNumber number) {
    connector_->OpenLink(number);
    return AwaitRequest(*channel_);
  }
  LinkRequest AwaitRequest(ControlChannel& channel) {
    LinkRequest request;
    HAVEN_CHECK(WaitFor([&] {
      HAVEN_CHECK(!connector_->Next().has_value());
      const auto message = ReceiveMessage(channel);
      HAVEN_CHECK_OK(message);
      if (!message->has_value()) return false;
      request = std::get<LinkRequest>(**message);
      return true;
    }));
    return request;
  }
  // The process is there, and its end of the channel is gone.
  void LoseChannel() {
    channel_.reset();
    Expect<ChannelLost>();
  }
  // The next connection to the session's process, which begins with LinkReady.
  void MeetAgain(LinkNumber link) {
    channel_ = Accept(*session_listener_);
    LinkReady ready;
    ASSERT_TRUE(WaitFor([&] {
      connector_->Next();
      const auto message = ReceiveMessage(*channel_);
      HAVEN_CHECK_OK(message);
      if (!message->has_value()) return false;
      ready = std::get<LinkReady>(**message);
      return true;
    }));
    EXPECT_EQ(ready, (LinkReady{kSession, link}));
  }
  HeartbeatMessage Beat(HeartbeatSender sender) {
    return {.session = kSession, .sender = sender, .state = 1, .counter = 1};
  }
  std::string LinkFailure() { return std::string(Expect<LinkFailed>().cause.message()); }
};

TEST_F(OpeningLinkTest, ALostChannelIsOpenedAgainWhileTheLinkGoesOn) {
  Say(*channel_, MakeOffer(AskForLink(4)));
  const LinkOpened link = Expect<LinkOpened>();
  LoseChannel();
  connector_->Send(Beat(HeartbeatSender::kPrimary));
  MeetAgain(4);
  EXPECT_EQ(connector_->data_link(), link.data);
  connector_->Send(Beat(HeartbeatSender::kPrimary));
  EXPECT_EQ(Receive<HeartbeatMessage>(*channel_), Beat(HeartbeatSender::kPrimary));
  Say(*channel_, Beat(HeartbeatSender::kBackup));
  Expect<MessageArrived>();
}

TEST_F(OpeningLinkTest, WithoutALinkAChannelIsOpenedWithTheNextOneOnly) {
  LoseChannel();
  connector_->Send(Beat(HeartbeatSender::kPrimary));
  connector_->OpenLink(2);
  channel_ = Accept(*session_listener_);
  EXPECT_EQ(AwaitRequest(*channel_).link, 2u);
}

TEST_F(OpeningLinkTest, AChannelOnWhichNothingIsSaidIsOpenedMoreAndMoreSeldom) {
  Say(*channel_, MakeOffer(AskForLink(1)));
  Expect<LinkOpened>();
  // So many messages are sent in vain before the one that has it opened again.
  for (const int left_out : {0, 1, 3, 7}) {
    LoseChannel();
    for (int i = 0; i < left_out; ++i) connector_->Send(Beat(HeartbeatSender::kPrimary));
    EXPECT_FALSE(session_listener_->Accept()->has_value()) << left_out;
    connector_->Send(Beat(HeartbeatSender::kPrimary));
    MeetAgain(1);
  }
  Say(*channel_, Beat(HeartbeatSender::kBackup));
  Expect<MessageArrived>();
  LoseChannel();
  connector_->Send(Beat(HeartbeatSender::kPrimary));
  MeetAgain(1);
}

TEST_F(OpeningLinkTest, ALinkThatNobodyCanDialAgainGoesOn) {
  Say(*channel_, MakeOffer(AskForLink(1)));
  const LinkOpened link = Expect<LinkOpened>();
  LoseChannel();
  session_listener_.reset();
  for (int i = 0; i < 3; ++i) connector_->Send(Beat(HeartbeatSender::kPrimary));
  PollSet poll = *PollSet::Create();
  ASSERT_TRUE(poll.Add(connector_->fd()).ok());
  ASSERT_TRUE(poll.WaitUntil(SystemClock::Get().NowNs() + 10 * kNsPerSecond)) << "the attempt ends";
  EXPECT_FALSE(connector_->Next().has_value());
  EXPECT_EQ(connector_->data_link(), link.data);
  EXPECT_FALSE(connector_->has_channel());
}

TEST_F(OpeningLinkTest, AnOfferOfAnotherNumberOfLanes) {
  LinkOffer offer = MakeOffer(AskForLink(1));
  offer.lanes.pop_back();
  Say(*channel_, offer);
  EXPECT_THAT(LinkFailure(), HasSubstr("1 lanes instead of 2"));
}

TEST_F(OpeningLinkTest, LanesThatDoNotExist) {
  LinkOffer offer = MakeOffer(AskForLink(1));
  offer.lanes[1] = Blob(3);
  Say(*channel_, offer);
  LinkFailure();
  // The next one is asked for on a new channel.
  connector_->OpenLink(2);
  const std::unique_ptr<ControlChannel> fresh = Accept(*session_listener_);
  EXPECT_EQ(AwaitRequest(*fresh).link, 2u);
}

TEST_F(OpeningLinkTest, ARefusal) {
  AskForLink(1);
  Say(*channel_, Refuse{RefuseCode::kNotReady, "not now"});
  EXPECT_THAT(LinkFailure(), HasSubstr("not now"));
}

TEST_F(OpeningLinkTest, AnOfferForALinkThatWasGivenUpIsIgnored) {
  const LinkOffer offer = MakeOffer(AskForLink(1));
  connector_->CloseLink();
  Say(*channel_, offer);
  Say(*channel_, HeartbeatMessage{kSession, HeartbeatSender::kBackup,
                                  static_cast<uint32_t>(BackupState::kSyncing), 1});
  EXPECT_TRUE(std::holds_alternative<HeartbeatMessage>(Expect<MessageArrived>().message));
  EXPECT_EQ(connector_->data_link(), nullptr);
}

TEST_F(OpeningLinkTest, ALostChannelEndsTheAttempt) {
  AskForLink(1);
  endpoint_.reset();
  channel_.reset();
  Expect<ChannelLost>();
  LinkFailure();
  EXPECT_FALSE(connector_->has_channel());
}

TEST_F(OpeningLinkTest, WhatIsNotForAPrimaryEndsTheChannel) {
  Say(*channel_, Handover{kSession, 3});
  EXPECT_THAT(std::string(Expect<ChannelLost>().cause.message()),
              HasSubstr("sends Handover, which is not for a primary"));
  EXPECT_TRUE(IsClosed(*channel_));
}

TEST_F(OpeningLinkTest, GarbageEndsTheChannel) {
  ASSERT_TRUE(channel_->Send(std::vector<std::byte>(9), kTestPatience).ok());
  EXPECT_THAT(std::string(Expect<ChannelLost>().cause.message()), HasSubstr("garbage"));
}

TEST_F(OpeningLinkTest, AFloodOfUselessMessagesEndsTheChannel) {
  // Nothing was asked for. All of them fit into the channel before one is read.
  const Refuse useless = {RefuseCode::kNotReady, ""};
  constexpr int kMost = TransportBackupConnector::kMaxMessagesPerCall;
  for (int i = 0; i < kMost; ++i) Say(*channel_, useless);
  EXPECT_FALSE(connector_->Next().has_value());
  EXPECT_TRUE(connector_->has_channel()) << "as many as are borne";
  for (int i = 0; i <= kMost; ++i) Say(*channel_, useless);
  EXPECT_THAT(std::string(Expect<ChannelLost>().cause.message()), HasSubstr("floods"));
  EXPECT_TRUE(IsClosed(*channel_));
}

TEST_F(OpeningLinkTest, AFullChannelCountsAsLost) {
  const Drop drop = {kSession, DropReason::kInternal, std::string(1000, 'x')};
  const int64_t start_ns = SystemClock::Get().NowNs();
  int sent = 0;
  while (connector_->has_channel()) {
    connector_->Send(drop);
    ASSERT_LT(++sent, 1'000'000);
  }
  EXPECT_GT(sent, 10);
  EXPECT_LT(SystemClock::Get().NowNs() - start_ns, absl::ToInt64Nanoseconds(kTestPatience));
  Expect<ChannelLost>();
}

TEST_F(OpeningLinkTest, AProcessThatIsGoneEndsTheSession) {
  session_listener_.reset();
  endpoint_.reset();
  channel_.reset();
  Expect<ChannelLost>();
  connector_->OpenLink(1);
  const MessageArrived arrived = Expect<MessageArrived>();
  ASSERT_TRUE(std::holds_alternative<Drop>(arrived.message));
  EXPECT_EQ(std::get<Drop>(arrived.message).session, kSession);
}

TEST(BackupConnectorOptionsTest, StagingMustHoldASlot) {
  ShmTransport transport;
  const std::unique_ptr<HeartbeatPump> pump = *HeartbeatPump::Start(1 * kNsPerMs);
  DialOptions options;
  EXPECT_TRUE(absl::IsInvalidArgument(
      TransportBackupConnector::Create(transport, options, *pump).status()));
  options.hello.slot_bytes = kMinSlotBytes;
  options.staging_bytes = kMinSlotBytes - 1;
  EXPECT_TRUE(absl::IsInvalidArgument(
      TransportBackupConnector::Create(transport, options, *pump).status()));
}

}  // namespace
}  // namespace haven
