// SPDX-License-Identifier: Apache-2.0
#include "engine/control/command_server.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  HAVEN_CHECK(path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// A client or a server that keeps to no protocol.
class RawSocket {
 public:
  RawSocket() : fd_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {}
  explicit RawSocket(int fd) : fd_(fd) {}

  void Listen(const std::string& path) {
    const sockaddr_un address = AddressOf(path);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_.get(), 4), 0);
  }
  RawSocket Accept() { return RawSocket(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }
  void Connect(const std::string& path) {
    const sockaddr_un address = AddressOf(path);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  void Send(const std::string& packet) {
    EXPECT_EQ(send(fd_.get(), packet.data(), packet.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(packet.size()));
  }
  bool AnswersWithin(int ms) {
    pollfd one = {fd_.get(), POLLIN, 0};
    return poll(&one, 1, ms) > 0;
  }
  // Empty: the other side has closed.
  std::string Receive() {
    std::string packet(8192, '\0');
    const ssize_t size = recv(fd_.get(), packet.data(), packet.size(), 0);
    packet.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return packet;
  }

 private:
  UniqueFd fd_;
};

class CommandServerTest : public testing::Test {
 protected:
  std::unique_ptr<CommandServer> Start() {
    absl::StatusOr<std::unique_ptr<CommandServer>> server =
        CommandServer::Start(path_, [this](const OperatorCommand& command) {
          ++handled_;
          if (command.name == "fail") return absl::FailedPreconditionError(command.argument);
          if (command.name == "chat") return absl::InternalError(std::string(9000, 'x'));
          return absl::OkStatus();
        });
    HAVEN_CHECK_OK(server);
    return *std::move(server);
  }
  absl::Status Send(const std::string& name, const std::string& argument = "") {
    return SendCommand(path_, {name, argument}, kTestPatience);
  }

  const ShortFolder folder_;
  const std::string path_ = folder_.File("g.command");
  std::atomic<int> handled_{0};
};

TEST_F(CommandServerTest, AnswersComeThroughAsTheyAre) {
  const auto server = Start();
  EXPECT_TRUE(Send("go", "25ms").ok());
  EXPECT_EQ(Send("fail", "not now"), absl::FailedPreconditionError("not now"));
  EXPECT_EQ(Send("fail"), absl::FailedPreconditionError(""));
  EXPECT_EQ(handled_, 3);
  const absl::Status longest = Send("chat");
  EXPECT_TRUE(absl::IsInternal(longest)) << "cut to one packet";
  EXPECT_GT(longest.message().size(), 4000u);
}

TEST_F(CommandServerTest, TheSocketGoesWithItsServer) {
  Start();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
  const absl::Status nobody = Send("go");
  EXPECT_TRUE(absl::IsNotFound(nobody)) << nobody;
}

TEST_F(CommandServerTest, TheSocketOfADeadProcessIsReplaced) {
  {
    RawSocket dead;
    dead.Listen(path_);
  }
  EXPECT_TRUE(absl::IsNotFound(Send("go"))) << "nobody listens";
  const auto server = Start();
  EXPECT_TRUE(Send("go").ok());
}

TEST_F(CommandServerTest, ASocketThatCanNotBeMadeIsNamed) {
  const auto refuse = [](const std::string& path) {
    return CommandServer::Start(path, [](const OperatorCommand&) { return absl::OkStatus(); })
        .status();
  };
  const absl::Status missing = refuse(folder_.File("none/g.command"));
  EXPECT_TRUE(absl::IsUnavailable(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("none/g.command"));
  ASSERT_TRUE(WriteFileAtomically(folder_.File("file"), "").ok());
  EXPECT_TRUE(absl::IsUnavailable(refuse(folder_.File("file/g.command"))));
  const absl::Status longer = refuse(folder_.File(std::string(120, 'x')));
  EXPECT_TRUE(absl::IsInvalidArgument(longer)) << longer;
  EXPECT_THAT(std::string(longer.message()), HasSubstr("shorter --directory"));
}

TEST_F(CommandServerTest, GarbageReachesNoHandler) {
  const auto server = Start();
  const std::string garbage[] = {"go",
                                 "go\n1\n2",
                                 "go\n2\001",
                                 "\177\n",
                                 std::string("go\n\0", 4),
                                 std::string(3000, '\n'),
                                 absl::StrCat("go\n", std::string(CommandServer::kMaxBytes, '1'))};
  for (const std::string& packet : garbage) {
    RawSocket client;
    client.Connect(path_);
    client.Send(packet);
    EXPECT_EQ(client.Receive(), "3\nthis is no command");
  }
  EXPECT_EQ(handled_, 0);
  EXPECT_TRUE(Send("go").ok());
}

TEST_F(CommandServerTest, ClientsThatLeaveAreForgotten) {
  const auto server = Start();
  { RawSocket().Connect(path_); }
  {
    RawSocket client;
    client.Connect(path_);
    client.Send("go\n");
  }
  EXPECT_TRUE(Send("go").ok());
  EXPECT_EQ(handled_, 2) << "a command that was sent is carried out";
}

TEST_F(CommandServerTest, AClientThatSaysNothingIsDropped) {
  const auto server = Start();
  RawSocket silent;
  silent.Connect(path_);
  // Served after it, when its time is over.
  EXPECT_TRUE(Send("go").ok());
  EXPECT_EQ(silent.Receive(), "");
  EXPECT_EQ(handled_, 1);
}

// The client waits in the kernel's queue until there is a descriptor for it.
TEST_F(CommandServerTest, AServerWithoutADescriptorForItsClientDoesNotSpin) {
  const auto server = Start();
  RawSocket client;
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Just below the next descriptor: with fewer than it is given, poll() itself refuses.
  const UniqueFd next(dup(STDERR_FILENO));
  ASSERT_GT(next.get(), STDERR_FILENO);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next.get()) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  client.Connect(path_);
  client.Send("go\n");
  const std::clock_t begin = std::clock();
  EXPECT_FALSE(client.AnswersWithin(300));
  const std::clock_t used = std::clock() - begin;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_LT(used, CLOCKS_PER_SEC / 10);
  EXPECT_EQ(client.Receive(), "0\n");
}

TEST_F(CommandServerTest, WhatCanNotBeACommandIsNotSent) {
  EXPECT_TRUE(absl::IsInvalidArgument(Send("go", std::string(CommandServer::kMaxBytes, '1'))));
  EXPECT_TRUE(absl::IsInvalidArgument(Send("go", "1\n2")));
  EXPECT_TRUE(absl::IsInvalidArgument(Send("g\to")));
  EXPECT_TRUE(absl::IsInvalidArgument(
      SendCommand(folder_.File(std::string(120, 'x')), {"go", ""}, kTestPatience)));
}

TEST_F(CommandServerTest, AServerThatDoesNotAnswerIsNotWaitedForLong) {
  RawSocket server;
  server.Listen(path_);
  const absl::Status status = SendCommand(path_, {"go", ""}, absl::Milliseconds(1));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

TEST_F(CommandServerTest, AServerThatIsNoneIsRecognised) {
  RawSocket server;
  server.Listen(path_);
  const auto answer = [&](const std::string& packet) {
    std::thread other([&] {
      RawSocket client = server.Accept();
      client.Receive();
      if (!packet.empty()) client.Send(packet);
    });
    const absl::Status status = Send("go");
    other.join();
    return status;
  };
  EXPECT_TRUE(absl::IsUnavailable(answer("")));
  EXPECT_TRUE(absl::IsDataLoss(answer("hello")));
  EXPECT_TRUE(absl::IsDataLoss(answer("x\nhello")));
  EXPECT_FALSE(answer("99999\nhello").ok());
  EXPECT_EQ(answer("9\nhello"), absl::FailedPreconditionError("hello"));
}

}  // namespace
}  // namespace haven
