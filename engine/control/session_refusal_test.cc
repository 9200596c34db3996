// SPDX-License-Identifier: Apache-2.0
//
// What a backup says to connections that are not, or can not become, a session.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <variant>

#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/faulty_transport_testing.h"
#include "engine/control/hello_builder.h"
#include "engine/control/message_io.h"
#include "engine/control/process_pair_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPages = 300;

class SessionRefusalTest : public testing::Test {
 protected:
  SessionRefusalTest() {
    HelloParameters parameters;
    parameters.node_id = "host-a";
    parameters.group = kTestGroup;
    parameters.slot_bytes = kMinSlotBytes;
    parameters.staging_bytes = uint64_t{16} * kMinSlotBytes;
    parameters.detect_ns = 2 * kNsPerSecond;
    Domain* const domains[] = {&guest_};
    hello_ = *BuildHello(parameters, domains);
    hello_.session = 0x1234;
  }

  void StartBackup() {
    backup_.emplace(transport_, address_, session_options_, factory_, arbiter_);
  }

  std::unique_ptr<ControlChannel> Connect(const std::string& address) {
    absl::StatusOr<std::unique_ptr<ControlChannel>> channel =
        transport_.Connect(address, kTestPatience);
    HAVEN_CHECK_OK(channel);
    return *std::move(channel);
  }
  absl::StatusOr<ControlMessage> Answer(ControlChannel& channel) {
    const std::shared_ptr<Cancel> never = *Cancel::Create();
    return WaitForMessage(channel, TimeLimit(kTestPatience), *never);
  }
  // The Refuse to this first message.
  Refuse RefusalAt(const std::string& address, const ControlMessage& message) {
    const std::unique_ptr<ControlChannel> channel = Connect(address);
    EXPECT_TRUE(SendMessage(*channel, message, kTestPatience).ok());
    const absl::StatusOr<ControlMessage> answer = Answer(*channel);
    if (!answer.ok()) {
      ADD_FAILURE() << answer.status();
      return {};
    }
    const auto* refuse = std::get_if<Refuse>(&*answer);
    if (refuse != nullptr) return *refuse;
    ADD_FAILURE() << "answered by " << ControlMessageName(*answer);
    return {};
  }
  Refuse Refusal(const ControlMessage& message) { return RefusalAt(address_, message); }

  // Connects without the transport.
  UniqueFd RawConnect(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    HAVEN_CHECK_LT(path.size(), sizeof(name.sun_path));
    std::memcpy(name.sun_path, path.data(), path.size());
    HAVEN_CHECK_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0)
        << "errno " << errno;
    return fd;
  }

  ShortFolder folder_;
  const std::string path_ = folder_.File("backup.sock");
  const std::string address_ = "unix:" + path_;
  ShmTransport transport_;
  const std::shared_ptr<TestArbiter> arbiter_ = std::make_shared<TestArbiter>();
  TestReplicaFactory factory_;
  TestWire wire_;
  TestGuest guest_{"g1", kPages, wire_};
  Hello hello_;
  SessionOptions session_options_ = TestSessionOptions();
  std::optional<PairBackup> backup_;
};

TEST_F(SessionRefusalTest, AnotherFormatVersion) {
  StartBackup();
  hello_.offer.version_min = 7;
  hello_.offer.version_max = 9;
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kVersion);
  EXPECT_THAT(refuse.message, HasSubstr("7"));
}

TEST_F(SessionRefusalTest, AFeatureThatIsNotHere) {
  StartBackup();
  hello_.offer.required = uint64_t{1} << 40;
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kFeature);
  EXPECT_THAT(refuse.message, HasSubstr("40"));
}

TEST_F(SessionRefusalTest, AFeatureThatThePrimaryLacks) {
  session_options_.setup.offer.required = uint64_t{1} << 41;
  StartBackup();
  EXPECT_EQ(Refusal(hello_).code, RefuseCode::kFeature);
}

TEST_F(SessionRefusalTest, AJournalBeyondTheLimit) {
  session_options_.setup.journal.max_bytes = uint64_t{1} << 20;
  StartBackup();
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kGeometry);
  EXPECT_THAT(refuse.message, HasSubstr("1048576"));
}

TEST_F(SessionRefusalTest, MoreMemoryThanTheHostHas) {
  session_options_.setup.journal.max_bytes = kMaxJournalBytes;
  StartBackup();
  hello_.max_epoch_slots = 1 << 22;  // Two epochs of 256 GiB.
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kMemory);
  EXPECT_EQ(backup_->sessions(), 0u);
}

TEST_F(SessionRefusalTest, ACopyThatCanNotBeBuilt) {
  factory_.set_result(absl::ResourceExhaustedError("no memory for the copy"));
  StartBackup();
  EXPECT_EQ(Refusal(hello_).code, RefuseCode::kMemory);
  factory_.set_result(absl::UnimplementedError("PV guests have no nested paging"));
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kDomain);
  EXPECT_EQ(refuse.message, "PV guests have no nested paging");
}

class SmallReplicaFactory final : public ReplicaFactory {
 public:
  absl::StatusOr<std::unique_ptr<ReplicaDomain>> Build(const HelloDomain& domain) override {
    return MemoryReplica::Create(
        {.pages = domain.page_count, .special = {{7, 8}}, .max_state_bytes = 8});
  }
};

TEST_F(SessionRefusalTest, ACopyWithLessRamThanTheOriginal) {
  SmallReplicaFactory factory;
  PairBackup backup(transport_, address_, session_options_, factory, arbiter_);
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kDomain);
  EXPECT_THAT(refuse.message, HasSubstr("no RAM at frame 7"));
}

TEST_F(SessionRefusalTest, WhatTheOwnerDoesNotAdmit) {
  session_options_.setup.admit = [](const Hello& hello) {
    return Refuse{RefuseCode::kPromoted, "group " + hello.group + " runs here"};
  };
  StartBackup();
  const Refuse refuse = Refusal(hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kPromoted);
  EXPECT_EQ(refuse.message, "group web runs here");
}

TEST_F(SessionRefusalTest, AFirstMessageThatIsNoHello) {
  StartBackup();
  EXPECT_EQ(Refusal(LinkRequest{.session = 5, .link = 1, .peer_region = {}}).code,
            RefuseCode::kNotReady);
  EXPECT_EQ(Refusal(Drop{5, DropReason::kInternal, ""}).code, RefuseCode::kNotReady);
}

TEST_F(SessionRefusalTest, BytesThatAreNoMessage) {
  StartBackup();
  const std::unique_ptr<ControlChannel> channel = Connect(address_);
  const std::vector<std::byte> garbage(100, std::byte{0x5a});
  ASSERT_TRUE(channel->Send(garbage, kTestPatience).ok());
  const absl::StatusOr<ControlMessage> answer = Answer(*channel);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_TRUE(std::holds_alternative<Refuse>(*answer));
  EXPECT_THAT(std::get<Refuse>(*answer).message, HasSubstr("garbage"));
}

TEST_F(SessionRefusalTest, PeersThatSayNothing) {
  session_options_.setup.hello_timeout = absl::Milliseconds(100);
  StartBackup();
  const std::unique_ptr<ControlChannel> mute = Connect(address_);
  const UniqueFd no_handshake = RawConnect(path_);
  const UniqueFd gone = RawConnect(path_);
  shutdown(gone.get(), SHUT_RDWR);
  EXPECT_TRUE(WaitFor([&] { return backup_->failures() == 3; }));
  EXPECT_EQ(backup_->sessions(), 0u);
}

// A running pair and strangers at the session's own address.
class SessionAddressTest : public SessionRefusalTest {
 protected:
  SessionAddressTest() {
    session_options_.session_address = "unix:" + session_path_;
    session_options_.door_patience = absl::Milliseconds(100);
    StartBackup();
    engine_.emplace(TestEngineOptions(address_), EngineSeams{.guests = {{&guest_, &guest_}},
                                                             .output = &guest_,
                                                             .transport = &engine_transport_,
                                                             .arbiter = arbiter_});
    EXPECT_TRUE(engine_->Reaches("protected"));
    EXPECT_EQ(backup_->newest().session_address(), session_options_.session_address);
    // What the engine says, as far as a replica is concerned.
    hello_ = backup_->newest().hello();
    hello_.session = 0x5678;
  }

  // Nothing has happened to the pair, and a reconnect works.
  void ExpectUndisturbed() {
    EXPECT_EQ(engine_->Status().counters.links, 1u);
    EXPECT_EQ(backup_->Status().session, engine_->Status().session);
    ++engine_faults_.broken_channels;
    ++engine_faults_.broken_links;
    EXPECT_TRUE(WaitFor([&] { return engine_->Status().counters.links == 2; }));
    EXPECT_TRUE(engine_->Reaches("protected"));
  }

  const std::string session_path_ = folder_.File("session.sock");
  const std::string session_address_ = "unix:" + session_path_;
  TransportFaults engine_faults_;
  FaultyTransport engine_transport_{transport_, engine_faults_};
  std::optional<TestEngine> engine_;
};

TEST_F(SessionAddressTest, AnotherGroup) {
  hello_.group = "mail";
  const Refuse refuse = RefusalAt(session_address_, hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kAuth);
  EXPECT_EQ(refuse.message, "this process serves group web, not mail");
  ExpectUndisturbed();
}

TEST_F(SessionAddressTest, OtherGuestsOrSizes) {
  Hello other = hello_;
  other.domains[0].config = "more disks";
  EXPECT_EQ(RefusalAt(session_address_, other).code, RefuseCode::kDomain);
  other = hello_;
  other.slot_bytes *= 2;
  EXPECT_EQ(RefusalAt(session_address_, other).code, RefuseCode::kGeometry);
  other = hello_;
  other.max_epoch_slots += 1;
  EXPECT_EQ(RefusalAt(session_address_, other).code, RefuseCode::kGeometry);
  ExpectUndisturbed();
}

TEST_F(SessionAddressTest, ASecondEngineOfTheSameGroup) {
  const Refuse refuse = RefusalAt(session_address_, hello_);
  EXPECT_EQ(refuse.code, RefuseCode::kNotReady);
  EXPECT_TRUE(engine_->Reaches("protected"));
  const Refuse at_listener = RefusalAt(address_, hello_);
  EXPECT_EQ(at_listener.code, RefuseCode::kGroupBusy);
}

TEST_F(SessionAddressTest, ALinkOfAnotherSession) {
  const Refuse refuse = RefusalAt(
      session_address_, LinkRequest{.session = 0x5678, .link = 2, .peer_region = Blob(16)});
  EXPECT_EQ(refuse.code, RefuseCode::kNotReady);
  EXPECT_THAT(refuse.message, HasSubstr("5678"));
  ExpectUndisturbed();
}

TEST_F(SessionAddressTest, GarbageAndSilence) {
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 12; ++i) {
    strangers.push_back(RawConnect(session_path_));
    if (i % 2 == 0) {
      const char garbage[] = "GET / HTTP/1.1\r\n\r\n";
      ASSERT_GT(write(strangers.back().get(), garbage, sizeof(garbage)), 0);
    }
  }
  const std::unique_ptr<ControlChannel> mute = Connect(session_address_);
  const std::unique_ptr<ControlChannel> mad = Connect(session_address_);
  ASSERT_TRUE(mad->Send(std::vector<std::byte>(64), kTestPatience).ok());
  const std::unique_ptr<ControlChannel> wrong = Connect(session_address_);
  ASSERT_TRUE(
      SendMessage(*wrong, Drop{hello_.session, DropReason::kInternal, ""}, kTestPatience).ok());
  EXPECT_TRUE(WaitFor([&] { return backup_->Status().counters.turned_away >= 15; }));
  ExpectUndisturbed();
}

}  // namespace
}  // namespace haven
