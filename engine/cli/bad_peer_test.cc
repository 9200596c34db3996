// SPDX-License-Identifier: Apache-2.0
//
// The real haven-engine with a backup that is wrong: the guest runs on, the status says why it is
// not protected, and nothing is left behind.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/cli/program_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/hello_builder.h"
#include "engine/control/message_io.h"
#include "engine/control/session_terms.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A backup that speaks the protocol as far as its answer to Hello, which is no.
class Stranger {
 public:
  Stranger(const std::string& address, const FeatureOffer& offer)
      : listener_(*transport_.Listen(address)), offer_(offer), thread_([this] { Serve(); }) {}
  ~Stranger() {
    stop_->Set();
    thread_.join();
  }

 private:
  void Serve() {
    while (!stop_->is_set()) {
      pollfd waiting[] = {{listener_->fd(), POLLIN, 0}, {stop_->fd(), POLLIN, 0}};
      poll(waiting, 2, -1);
      const absl::StatusOr<std::optional<int>> fd = listener_->Accept();
      if (!fd.ok() || !fd->has_value()) continue;
      const auto channel = transport_.Adopt(**fd, kTestPatience);
      if (!channel.ok()) continue;
      const auto hello = HearFirst(**channel, TimeLimit(kTestPatience), *stop_);
      if (!hello.ok() || !std::holds_alternative<Hello>(*hello)) continue;
      const TermsDecision decision = DecideTerms(std::get<Hello>(*hello), offer_, {});
      SendMessage(**channel, decision.refuse, kTestPatience).IgnoreError();
    }
  }

  ShmTransport transport_;
  const std::unique_ptr<Listener> listener_;
  const FeatureOffer offer_;
  const std::shared_ptr<Cancel> stop_ = *Cancel::Create();
  std::thread thread_;
};

class BadPeerTest : public ProgramTest {
 protected:
  // A backup that listens, with these options besides the usual ones.
  std::unique_ptr<Program> StartBackup(const Words& more) {
    Words words = {"backup",   Arbiter(),  absl::StrCat("--directory=", folder_.File("b")),
                   "--node=b", "--listen", Address()};
    words.insert(words.end(), more.begin(), more.end());
    std::unique_ptr<Program> backup = Start(words);
    EXPECT_TRUE(WaitFor([&] { return access(folder_.File("b.sock").c_str(), F_OK) == 0; }));
    return backup;
  }

  // Protects g1 until its status contains `complaint`, then ends it all.
  void ExpectComplaint(const Words& protect, const std::string& complaint) {
    const std::unique_ptr<Program> guard = Start(protect);
    std::string status;
    EXPECT_TRUE(WaitFor([&] {
      const std::unique_ptr<Program> show = Start({"status", "g1", Directory()});
      show->Wait();
      status = show->Output();
      return status.find(complaint) != std::string::npos;
    })) << status;
    EXPECT_THAT(status, HasSubstr("unprotected"));
    EXPECT_TRUE(GuestIsThere()) << "it runs on";
    EXPECT_EQ(Run({"unprotect", "g1", Directory()}), 0);
    EXPECT_EQ(guard->Wait(), 0) << guard->Output();
    EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0);
  }

  Hello SomeHello() {
    HelloParameters parameters;
    parameters.node_id = "stranger";
    parameters.group = "g1";
    parameters.slot_bytes = kMinSlotBytes;
    parameters.staging_bytes = 4 * kMinSlotBytes;
    parameters.detect_ns = kNsPerSecond;
    Domain* const domains[] = {&guest_};
    Hello hello = *BuildHello(parameters, domains);
    hello.session = 17;
    return hello;
  }
  // What the backup at Address() answers to a primary with this Hello.
  std::string Refusal(const Hello& hello) {
    ShmTransport transport;
    const auto channel = transport.Connect(Address(), kTestPatience);
    HAVEN_CHECK_OK(channel);
    HAVEN_CHECK_OK(SendMessage(**channel, hello, kTestPatience));
    const std::shared_ptr<Cancel> never = *Cancel::Create();
    const auto answer = WaitForMessage(**channel, TimeLimit(kTestPatience), *never);
    HAVEN_CHECK_OK(answer);
    if (const auto* refuse = std::get_if<Refuse>(&*answer)) return refuse->message;
    return absl::StrCat("answered by ", ControlMessageName(*answer));
  }

  TestWire wire_;
  TestGuest guest_{"g1", 300, wire_};
};

TEST_F(BadPeerTest, ABackupThatSendsGarbage) {
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = folder_.File("b.sock");
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 8), 0);
  std::thread backup([&] {
    const std::string garbage(4096, '\xa5');
    while (true) {
      const UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) return;
      send(peer.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
      // Not closed before it was read.
      char byte = 0;
      while (recv(peer.get(), &byte, 1, 0) > 0) continue;
    }
  });
  ExpectComplaint(Protect({Backup()}), "the peer does not speak this protocol");
  shutdown(listener.get(), SHUT_RDWR);
  backup.join();
}

// A backup of another release, which says what NegotiateFeatures() there makes it say.
TEST_F(BadPeerTest, ABackupOfAnotherVersion) {
  const Stranger backup(Address(), {.version_min = 7, .version_max = 9});
  ExpectComplaint(Protect({Backup()}), "the peer refuses (version): ");
}

TEST_F(BadPeerTest, ABackupThatNeedsAFeature) {
  const Stranger backup(Address(), {.required = uint64_t{1} << 41});
  ExpectComplaint(Protect({Backup()}), "the peer refuses (feature): ");
}

TEST_F(BadPeerTest, APrimaryOfAnotherVersionOrWithAnUnknownFeature) {
  const std::unique_ptr<Program> backup = StartBackup({});
  Hello hello = SomeHello();
  hello.offer.version_min = 7;
  hello.offer.version_max = 9;
  EXPECT_THAT(Refusal(hello), HasSubstr("version"));
  hello = SomeHello();
  hello.offer.required = uint64_t{1} << 41;
  EXPECT_THAT(Refusal(hello), HasSubstr("41"));
  EXPECT_TRUE(WaitFor([&] { return Processes().size() == 1; })) << "the listener alone";
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
  EXPECT_THAT(backup->Output(), AllOf(HasSubstr("is refused (version)"),
                                      HasSubstr("is refused (feature)"), HasSubstr("group g1")));
}

TEST_F(BadPeerTest, ABackupWithoutRoomForTheJournal) {
  const std::unique_ptr<Program> backup = StartBackup({"--journal-bytes=1M"});
  ExpectComplaint(Protect({Backup(), "--epoch-bytes=64M"}), "this backup allows");
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

// The sizes of ring and pool reach the session process: alone either would fit.
TEST_F(BadPeerTest, ABackupWithoutRoomForRingAndPool) {
  const std::unique_ptr<Program> backup =
      StartBackup({"--journal-bytes=128M", "--ring-bytes=96M", "--pool-bytes=96M"});
  ExpectComplaint(Protect({Backup(), "--epoch-bytes=1M"}), "this backup allows");
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

TEST_F(BadPeerTest, StagingThatThisHostHasNoMemoryFor) {
  const std::unique_ptr<Program> backup = StartBackup({});
  ExpectComplaint(Protect({Backup(), "--epoch-bytes=256G"}), "memory");
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

// Two nodes that ask different arbiters do not see each other there: the backup is the last to
// notice that they mean the same group.
TEST_F(BadPeerTest, ABackupThatProtectsAnotherGroupOfThatName) {
  const std::unique_ptr<Program> backup = StartBackup({});
  const std::unique_ptr<Program> first =
      Start({"protect", "synthetic:name=g1,mem=1M", absl::StrCat("--directory=", folder_.File("c")),
             "--node=c", Arbiter(), Backup()});
  ASSERT_TRUE(WaitFor([&] {
    return Run({"status", "g1", "--check", absl::StrCat("--directory=", folder_.File("c"))}) == 0;
  })) << first->Output();
  std::filesystem::create_directory(folder_.File("other"));
  ASSERT_TRUE(WriteFileAtomically(folder_.File("other/haven-arbiter"), "").ok());
  ExpectComplaint({"protect", "synthetic:name=g1,mem=1M", Directory(), "--node=a",
                   absl::StrCat("--arbiter=file:", folder_.File("other")), Backup()},
                  "group-busy");
  EXPECT_EQ(Run({"status", "g1", "--check", absl::StrCat("--directory=", folder_.File("c"))}), 0)
      << "undisturbed";
  EXPECT_EQ(Run({"unprotect", "g1", absl::StrCat("--directory=", folder_.File("c"))}), 0);
  EXPECT_EQ(first->Wait(), 0) << first->Output();
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", absl::StrCat("--directory=", folder_.File("c"))}),
            0);
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

}  // namespace
}  // namespace haven
