// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/tls_control_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "engine/base/byte_order.h"
#include "transport/tls/channel_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

// The same contract with each kind of credentials.
class EveryKind : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kind = GetParam();
    CredentialOptions a = Insecure();
    CredentialOptions b = Insecure();
    if (kind == "psk") a = b = keys_.Psk("key");
    if (kind == "certificates") {
      a = keys_.Node("a");
      b = keys_.Node("b");
    }
    TlsChannelPair pair = Pair(a, b);
    ASSERT_TRUE(pair.connector.ok()) << pair.connector.status();
    ASSERT_TRUE(pair.acceptor.ok()) << pair.acceptor.status();
    a_ = *std::move(pair.connector);
    b_ = *std::move(pair.acceptor);
  }

  KeyFolder keys_;
  std::unique_ptr<TlsControlChannel> a_;
  std::unique_ptr<TlsControlChannel> b_;
};

TEST_P(EveryKind, MessagesArriveWholeAndInOrder) {
  for (const size_t bytes : {size_t{1}, size_t{7}, size_t{16383}, size_t{16385}, size_t{100'000}}) {
    ASSERT_TRUE(a_->Send(Bytes(bytes, 1), kTestTimeout).ok());
    ASSERT_TRUE(a_->Send(Bytes(3, 2), kTestTimeout).ok());
    EXPECT_EQ(*Wait(*b_), Bytes(bytes, 1));
    EXPECT_EQ(*Wait(*b_), Bytes(3, 2));
  }
  ASSERT_TRUE(b_->Send(Bytes(5, 9), kTestTimeout).ok());
  EXPECT_EQ(*Wait(*a_), Bytes(5, 9));
}

TEST_P(EveryKind, TheLargestMessageGoesThrough) {
  const std::vector<std::byte> message = Bytes(ControlChannel::kMaxMessageBytes, 3);
  std::thread sending([&] { EXPECT_TRUE(a_->Send(message, kTestTimeout).ok()); });
  const absl::StatusOr<std::vector<std::byte>> got = Wait(*b_);
  sending.join();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, message);
}

TEST_P(EveryKind, TooLargeOrEmptyMessagesAreRefusedAndTheChannelGoesOn) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      a_->Send(Bytes(ControlChannel::kMaxMessageBytes + 1, 3), kTestTimeout)));
  EXPECT_TRUE(absl::IsInvalidArgument(a_->Send({}, kTestTimeout)));
  EXPECT_TRUE(a_->Send(Bytes(1, 1), kTestTimeout).ok());
}

TEST_P(EveryKind, ReceiveNeverBlocks) {
  const absl::StatusOr<std::optional<std::vector<std::byte>>> nothing = b_->Receive();
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_FALSE(nothing->has_value());
}

TEST_P(EveryKind, ADescriptorIsReadableAsLongAsAMessageWaitsThatIsNotBuffered) {
  for (uint8_t i = 0; i < 3; ++i) ASSERT_TRUE(a_->Send(Bytes(100, i), kTestTimeout).ok());
  for (uint8_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(b_->buffered() || *WaitForFd(b_->fd(), POLLIN, NetDeadline(kTestTimeout)))
        << "message " << int{i};
    EXPECT_EQ(*Wait(*b_), Bytes(100, i));
  }
  EXPECT_FALSE(b_->buffered());
  EXPECT_FALSE(*WaitForFd(b_->fd(), POLLIN, NetDeadline(absl::ZeroDuration())));
}

TEST_P(EveryKind, APeerThatClosesIsUnavailableAfterItsLastMessage) {
  ASSERT_TRUE(a_->Send(Bytes(4, 4), kTestTimeout).ok());
  a_.reset();
  EXPECT_EQ(*Wait(*b_), Bytes(4, 4));
  EXPECT_TRUE(absl::IsUnavailable(Wait(*b_).status()));
  EXPECT_TRUE(absl::IsUnavailable(b_->Receive().status())) << "it stays so";
}

TEST_P(EveryKind, SendingToAPeerThatHasGoneIsAnErrorAndNoSignal) {
  b_.reset();
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status = a_->Send(Bytes(10'000, 1), absl::Milliseconds(100));
  }
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

TEST_P(EveryKind, APeerThatDoesNotReadIsNoticedByTheDeadline) {
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {
    status = a_->Send(Bytes(ControlChannel::kMaxMessageBytes, 1), absl::Milliseconds(50));
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(absl::IsDeadlineExceeded(a_->Send(Bytes(1, 1), kTestTimeout))) << "unusable";
}

TEST_P(EveryKind, EachSideLearnsTheOthersIncarnation) {
  EXPECT_NE(a_->peer(), b_->peer());
  EXPECT_NE(a_->peer(), Incarnation{});
}

TEST_P(EveryKind, AMessageWaitsForNoReader) {
  EXPECT_TRUE(a_->Send(Bytes(64 << 10, 1), absl::ZeroDuration()).ok());
}

TEST_P(EveryKind, OnlyTlsHasASecretAndBothEndsHaveTheSame) {
  const absl::StatusOr<ChannelKey> own = a_->ExportKey(7);
  const absl::StatusOr<ChannelKey> theirs = b_->ExportKey(7);
  if (std::string(GetParam()) == "insecure") {
    EXPECT_TRUE(absl::IsFailedPrecondition(own.status())) << own.status();
    EXPECT_TRUE(absl::IsFailedPrecondition(theirs.status())) << theirs.status();
    return;
  }
  ASSERT_TRUE(own.ok() && theirs.ok()) << own.status() << theirs.status();
  EXPECT_EQ(*own, *theirs);
  EXPECT_NE(*own, ChannelKey{});
  EXPECT_NE(*own, *a_->ExportKey(8));
}

TEST(TlsControlChannel, EachConnectionHasASecretOfItsOwn) {
  KeyFolder keys;
  const CredentialOptions options = keys.Psk("key");
  const TlsChannelPair first = Pair(options, options);
  const TlsChannelPair second = Pair(options, options);
  ASSERT_TRUE(first.connector.ok() && second.connector.ok());
  EXPECT_NE(*(*first.connector)->ExportKey(7), *(*second.connector)->ExportKey(7));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, ::testing::Values("insecure", "psk", "certificates"),
                         [](const auto& one) { return std::string(one.param); });

TEST(TlsControlChannel, NamesTheNodeOfTheCertificate) {
  KeyFolder keys;
  const TlsChannelPair pair = Pair(keys.Node("alpha"), keys.Node("beta"));
  ASSERT_TRUE(pair.connector.ok() && pair.acceptor.ok());
  EXPECT_EQ((*pair.connector)->Describe(), "tcp:acceptor node beta");
  EXPECT_EQ((*pair.acceptor)->Describe(), "tcp:connector node alpha");
}

// Neither side gets a channel, and one of them says what is wrong.
void ExpectNoChannel(const TlsChannelPair& pair, absl::StatusCode code, const std::string& why) {
  EXPECT_FALSE(pair.connector.ok());
  EXPECT_FALSE(pair.acceptor.ok());
  const absl::Status& a = pair.connector.status();
  const absl::Status& b = pair.acceptor.status();
  EXPECT_TRUE(a.code() == code || b.code() == code) << a << "\n" << b;
  EXPECT_THAT(absl::StrCat(std::string(a.message()), "|", std::string(b.message())),
              HasSubstr(why));
}

TEST(TlsControlChannel, AnotherPskIsRefused) {
  KeyFolder keys;
  ExpectNoChannel(Pair(keys.Psk("one"), keys.Psk("two")), absl::StatusCode::kPermissionDenied,
                  "same pre-shared key");
}

TEST(TlsControlChannel, ACertificateOfAnotherAuthorityIsRefused) {
  KeyFolder ours;
  KeyFolder theirs;
  ExpectNoChannel(Pair(theirs.Node("a"), ours.Node("b")), absl::StatusCode::kPermissionDenied,
                  "same authority");
}

TEST(TlsControlChannel, AnExpiredCertificateOfThePeerIsRefused) {
  KeyFolder keys;
  CredentialOptions options = keys.Node("b");
  // Valid when it is loaded, and not any more when it is shown.
  const CredentialOptions brief =
      keys.Node("brief", {.begins = -absl::Hours(2), .ends = absl::Seconds(1)});
  const std::shared_ptr<const Credentials> loaded = LoadOrDie(brief);
  const std::unique_ptr<TcpListener> listener = ListenLocally();
  const NetDeadline expiry(absl::Milliseconds(2100));
  ASSERT_FALSE(*WaitForFd(listener->fd(), POLLIN, expiry));
  std::thread connecting([&] {
    const ChannelOr channel = TlsControlChannel::Connect(
        listener->bound(), loaded, *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:acceptor");
    EXPECT_TRUE(absl::IsPermissionDenied(channel.status())) << channel.status();
  });
  const ChannelOr channel =
      TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(options),
                              *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:connector");
  connecting.join();
  EXPECT_TRUE(absl::IsPermissionDenied(channel.status())) << channel.status();
  EXPECT_THAT(std::string(channel.status().message()), HasSubstr("expired"));
}

// The other way: who accepts shows it, and both sides can say what is wrong.
TEST(TlsControlChannel, AnExpiredCertificateOfTheAcceptorIsToldToBoth) {
  KeyFolder keys;
  const CredentialOptions options = keys.Node("a");
  const CredentialOptions old =
      keys.Node("old", {.begins = -absl::Hours(48), .ends = -absl::Hours(24)});
  const auto shown = Credentials::Load(old, ExpiredCertificate::kShown);
  ASSERT_TRUE(shown.ok()) << shown.status();
  const std::unique_ptr<TcpListener> listener = ListenLocally();
  std::thread connecting([&] {
    const ChannelOr channel =
        TlsControlChannel::Connect(listener->bound(), LoadOrDie(options), *MakeIncarnation(),
                                   NetDeadline(kTestTimeout), "tcp:acceptor");
    EXPECT_TRUE(absl::IsPermissionDenied(channel.status())) << channel.status();
    EXPECT_THAT(std::string(channel.status().message()), HasSubstr("certificate has expired"));
  });
  const ChannelOr channel =
      TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, *shown,
                              *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:connector");
  connecting.join();
  EXPECT_TRUE(absl::IsPermissionDenied(channel.status())) << channel.status();
  EXPECT_THAT(std::string(channel.status().message()), HasSubstr("this host's certificate"));
}

TEST(TlsControlChannel, PskAndCertificatesDoNotMix) {
  KeyFolder keys;
  const CredentialOptions node = keys.Node("a");
  ExpectNoChannel(Pair(keys.Psk("key"), node), absl::StatusCode::kPermissionDenied,
                  "authentication has failed");
  ExpectNoChannel(Pair(node, keys.Psk("key")), absl::StatusCode::kPermissionDenied,
                  "authentication has failed");
}

TEST(TlsControlChannel, InsecureOnOneSideOnlyIsRefused) {
  KeyFolder keys;
  const TlsChannelPair to_tls = Pair(Insecure(), keys.Psk("key"));
  EXPECT_TRUE(absl::IsDataLoss(to_tls.acceptor.status())) << to_tls.acceptor.status();
  EXPECT_FALSE(to_tls.connector.ok());
  const TlsChannelPair to_plain = Pair(keys.Psk("key"), Insecure());
  EXPECT_TRUE(absl::IsDataLoss(to_plain.acceptor.status())) << to_plain.acceptor.status();
  EXPECT_FALSE(to_plain.connector.ok());
}

TEST(TlsControlChannel, ASilentPeerIsGivenUp) {
  KeyFolder keys;
  for (const CredentialOptions& options : {keys.Psk("key"), Insecure()}) {
    const std::unique_ptr<TcpListener> listener = ListenLocally();
    UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(
        connect(client.get(), listener->bound().sockaddr_ptr(), listener->bound().sockaddr_bytes()),
        0);
    ASSERT_EQ(send(client.get(), "\x16", 1, 0), 1);
    const ChannelOr channel = TlsControlChannel::Open(
        AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(options), *MakeIncarnation(),
        NetDeadline(absl::Milliseconds(50)), "tcp:connector");
    EXPECT_TRUE(absl::IsDeadlineExceeded(channel.status())) << channel.status();
  }
}

TEST(TlsControlChannel, RandomBytesAreDataLoss) {
  KeyFolder keys;
  for (const CredentialOptions& options : {keys.Psk("key"), keys.Node("n"), Insecure()}) {
    const std::unique_ptr<TcpListener> listener = ListenLocally();
    UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(
        connect(client.get(), listener->bound().sockaddr_ptr(), listener->bound().sockaddr_bytes()),
        0);
    const std::string request = "GET / HTTP/1.0\r\nHost: somewhere\r\n\r\n";
    ASSERT_GT(send(client.get(), request.data(), request.size(), 0), 0);
    const ChannelOr channel =
        TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(options),
                                *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:scanner");
    EXPECT_TRUE(absl::IsDataLoss(channel.status())) << channel.status();
  }
}

// What an authenticated peer may send behind the greeting.
class HostilePeer : public ::testing::Test {
 protected:
  HostilePeer() {
    const std::unique_ptr<TcpListener> listener = ListenLocally();
    raw_ = UniqueFd(socket(AF_INET, SOCK_STREAM, 0));
    HAVEN_CHECK(connect(raw_.get(), listener->bound().sockaddr_ptr(),
                        listener->bound().sockaddr_bytes()) == 0);
    Say(0x47435648, 1, 20);
    channel_ =
        TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(Insecure()),
                                *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:hostile");
  }

  // A magic, a number, and zeros up to `bytes` behind the magic.
  void Say(uint32_t magic, uint32_t number, size_t bytes) {
    std::vector<std::byte> text(4 + bytes);
    StoreLe32(text.data(), magic);
    StoreLe32(text.data() + 4, number);
    HAVEN_CHECK(send(raw_.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }

  UniqueFd raw_;
  ChannelOr channel_ = absl::UnknownError("not tried");
};

TEST_F(HostilePeer, LengthsBeyondTheLimitAreDataLoss) {
  ASSERT_TRUE(channel_.ok()) << channel_.status();
  Say(0x4d435648, ControlChannel::kMaxMessageBytes + 1, 4);
  EXPECT_TRUE(absl::IsDataLoss(Wait(**channel_).status()));
}

TEST_F(HostilePeer, AnEmptyMessageIsDataLoss) {
  ASSERT_TRUE(channel_.ok()) << channel_.status();
  Say(0x4d435648, 0, 4);
  EXPECT_TRUE(absl::IsDataLoss(Wait(**channel_).status()));
}

TEST_F(HostilePeer, AnotherMagicIsDataLossAndStaysSo) {
  ASSERT_TRUE(channel_.ok()) << channel_.status();
  Say(0x12345678, 5, 9);
  EXPECT_TRUE(absl::IsDataLoss(Wait(**channel_).status()));
  EXPECT_TRUE(absl::IsDataLoss((*channel_)->Receive().status()));
  EXPECT_TRUE(absl::IsDataLoss((*channel_)->Send(Bytes(1, 1), kTestTimeout)));
}

TEST_F(HostilePeer, AMessageCutShortIsUnavailable) {
  ASSERT_TRUE(channel_.ok()) << channel_.status();
  Say(0x4d435648, 100, 50);
  raw_.reset();
  EXPECT_TRUE(absl::IsUnavailable(Wait(**channel_).status()));
}

TEST(TlsControlChannel, AnotherVersionOfTheGreetingIsRefusedWithWhatToDo) {
  const std::unique_ptr<TcpListener> listener = ListenLocally();
  UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(
      connect(client.get(), listener->bound().sockaddr_ptr(), listener->bound().sockaddr_bytes()),
      0);
  std::array<std::byte, 24> greeting = {};
  StoreLe32(greeting.data(), uint32_t{0x47435648});
  StoreLe16(greeting.data() + 4, uint16_t{2});
  ASSERT_EQ(send(client.get(), greeting.data(), greeting.size(), 0), 24);
  const ChannelOr channel =
      TlsControlChannel::Open(AcceptOne(*listener), StreamSide::kAcceptor, LoadOrDie(Insecure()),
                              *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:other");
  EXPECT_TRUE(absl::IsFailedPrecondition(channel.status())) << channel.status();
  EXPECT_THAT(std::string(channel.status().message()), HasSubstr("same release"));
}

TEST(TlsControlChannel, NobodyListening) {
  uint16_t port = 0;
  { port = ListenLocally()->bound().port(); }
  const ChannelOr channel = TlsControlChannel::Connect(
      InetAddress::ParseHost("127.0.0.1")->WithPort(port), LoadOrDie(Insecure()),
      *MakeIncarnation(), NetDeadline(kTestTimeout), "tcp:nobody");
  EXPECT_TRUE(absl::IsUnavailable(channel.status())) << channel.status();
}

// It is not taken for one that is not there any more: a busy process does that.
TEST(TlsControlChannel, APeerThatHangsUpBeforeItHasSaidWhoItIs) {
  const std::unique_ptr<TcpListener> listener = ListenLocally();
  std::thread peer([&listener] { const UniqueFd dropped = AcceptOne(*listener); });
  const ChannelOr channel =
      TlsControlChannel::Connect(listener->bound(), LoadOrDie(Insecure()), *MakeIncarnation(),
                                 NetDeadline(kTestTimeout), "tcp:busy");
  peer.join();
  EXPECT_TRUE(absl::IsAborted(channel.status())) << channel.status();
}

TEST(TlsControlChannel, NoWayToTheAddress) {
  // The kernel has no way for TCP to a group of hosts.
  const ChannelOr channel = TlsControlChannel::Connect(
      InetAddress::ParseHost("224.0.0.1")->WithPort(9), LoadOrDie(Insecure()), *MakeIncarnation(),
      NetDeadline(kTestTimeout), "tcp:nowhere");
  EXPECT_TRUE(absl::IsDeadlineExceeded(channel.status())) << channel.status();
}

}  // namespace
}  // namespace haven
