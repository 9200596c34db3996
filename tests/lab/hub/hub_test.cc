// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "tests/lab/hub/frame_stream.h"

namespace haven {
namespace {

using testing::HasSubstr;

UniqueFd ConnectTo(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
      << path << ": " << std::strerror(errno);
  // A test must not wait for ever for what does not come.
  const timeval timeout{10, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  return fd;
}

Frame Broadcast(size_t bytes, uint8_t fill) {
  Frame frame(bytes, std::byte{fill});
  std::fill_n(frame.begin(), 6, std::byte{0xff});
  return frame;
}

void SendFrame(const UniqueFd& fd, const Frame& frame) {
  std::vector<std::byte> stream;
  AppendFrame(frame, stream);
  EXPECT_EQ(send(fd.get(), stream.data(), stream.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(stream.size()));
}

// The next frame, or an empty one if the connection ends.
Frame ReceiveFrame(const UniqueFd& fd) {
  FrameReader reader;
  Frame received;
  std::byte byte;
  while (received.empty() && recv(fd.get(), &byte, 1, 0) == 1) {
    EXPECT_TRUE(reader
                    .Add(std::span(&byte, 1),
                         [&](std::span<const std::byte> frame) {
                           received.assign(frame.begin(), frame.end());
                         })
                    .ok());
  }
  return received;
}

std::string Ask(const UniqueFd& fd, const std::string& line) {
  EXPECT_EQ(send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(line.size()));
  std::string answer;
  char character;
  while (recv(fd.get(), &character, 1, 0) == 1 && character != '\n') answer += character;
  return answer;
}

class HubTest : public testing::Test {
 protected:
  void SetUp() override {
    // The path of a socket is short; those of Bazel's folders are not.
    folder_ = "/tmp/haven-hub-test.XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    auto hub = Hub::Start({{"a", "lan", Path("a")},
                           {"b", "lan", Path("b")},
                           {"stirred", "other", Path("stirred"), /*stirred=*/true}},
                          Path("control"), 1, SystemClock::Get());
    ASSERT_TRUE(hub.ok()) << hub.status();
    hub_ = *std::move(hub);
    stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this] { EXPECT_TRUE(hub_->Run(stop_.get()).ok()); });
  }

  void TearDown() override {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
    thread_.join();
    hub_.reset();
    // The hub has removed its sockets, so nothing is in the way.
    EXPECT_EQ(rmdir(folder_.c_str()), 0) << std::strerror(errno);
  }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
  std::unique_ptr<Hub> hub_;
  UniqueFd stop_;
  std::thread thread_;
};

TEST_F(HubTest, FramesPassBetweenPorts) {
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd b = ConnectTo(Path("b"));
  // An answer to a command comes after everything that happened before, such as the connections.
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"clear\"}\n");
  SendFrame(a, Broadcast(9014, 7));
  EXPECT_EQ(ReceiveFrame(b), Broadcast(9014, 7));
}

TEST_F(HubTest, AStirredPortHearsSomethingAgainAndAgain) {
  const UniqueFd stirred = ConnectTo(Path("stirred"));
  const UniqueFd a = ConnectTo(Path("a"));
  const Frame first = ReceiveFrame(stirred);
  ASSERT_EQ(first.size(), 60u);
  EXPECT_EQ(first[12], std::byte{0x88});
  EXPECT_EQ(first[13], std::byte{0xb5});
  EXPECT_EQ(ReceiveFrame(stirred), first);
  // Nobody else does: what comes there next is what is sent next.
  const UniqueFd b = ConnectTo(Path("b"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"clear\"}\n");
  SendFrame(b, Broadcast(100, 7));
  EXPECT_EQ(ReceiveFrame(a), Broadcast(100, 7));
}

TEST_F(HubTest, ACutLinkIsSilentAndAHealedOneIsNot) {
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd b = ConnectTo(Path("b"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"link\", \"from\": \"a\", \"to\": \"b\", \"rule\": {\"cut\": true}}\n");
  SendFrame(a, Broadcast(60, 1));
  std::string stats;
  do {
    stats = Ask(control, "{\"op\": \"stats\"}\n");
  } while (stats.find("\"cut\":1") == std::string::npos && !HasFailure());
  Ask(control, "{\"op\": \"clear\"}\n");
  SendFrame(a, Broadcast(60, 2));
  EXPECT_EQ(ReceiveFrame(b), Broadcast(60, 2));
}

TEST_F(HubTest, DelayedFramesArriveWithoutAnyOtherEvent) {
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd b = ConnectTo(Path("b"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control,
      "{\"op\": \"link\", \"from\": \"*\", \"to\": \"*\", \"rule\": {\"delay_us\": 20000}}\n");
  const int64_t start_ns = SystemClock::Get().NowNs();
  SendFrame(a, Broadcast(60, 3));
  EXPECT_EQ(ReceiveFrame(b), Broadcast(60, 3));
  EXPECT_GE(SystemClock::Get().NowNs() - start_ns, 20 * kNsPerMs);
}

TEST_F(HubTest, ANewConnectionTakesThePlaceOfTheOldOne) {
  const UniqueFd before = ConnectTo(Path("a"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"clear\"}\n");
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd b = ConnectTo(Path("b"));
  Ask(control, "{\"op\": \"clear\"}\n");
  EXPECT_TRUE(ReceiveFrame(before).empty());
  SendFrame(b, Broadcast(60, 4));
  EXPECT_EQ(ReceiveFrame(a), Broadcast(60, 4));
}

TEST_F(HubTest, AStreamThatIsNoneIsClosedAndThePortGoesOn) {
  const UniqueFd broken = ConnectTo(Path("a"));
  const std::vector<std::byte> nonsense(64, std::byte{0xff});
  EXPECT_EQ(send(broken.get(), nonsense.data(), nonsense.size(), MSG_NOSIGNAL), 64);
  EXPECT_TRUE(ReceiveFrame(broken).empty());
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd b = ConnectTo(Path("b"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"clear\"}\n");
  SendFrame(a, Broadcast(60, 5));
  EXPECT_EQ(ReceiveFrame(b), Broadcast(60, 5));
}

TEST_F(HubTest, AHostThatDoesNotReadDoesNotStopTheOthers) {
  const UniqueFd a = ConnectTo(Path("a"));
  const UniqueFd deaf = ConnectTo(Path("b"));
  const UniqueFd control = ConnectTo(Path("control"));
  Ask(control, "{\"op\": \"clear\"}\n");
  const Frame large = Broadcast(65536, 6);
  for (size_t sent = 0; sent < 2 * Hub::kWaitingBytesMax; sent += large.size()) SendFrame(a, large);
  EXPECT_THAT(Ask(control, "{\"op\": \"stats\"}\n"), HasSubstr("links"));
  // What it did not miss is still whole.
  EXPECT_EQ(ReceiveFrame(deaf), large);
}

TEST_F(HubTest, AnEndlessCommandIsCutOff) {
  const UniqueFd control = ConnectTo(Path("control"));
  const std::string endless(Hub::kCommandBytesMax + 4096, 'x');
  // The hub may hang up before it has taken all of it.
  (void)send(control.get(), endless.data(), endless.size(), MSG_NOSIGNAL);
  char character;
  EXPECT_LE(recv(control.get(), &character, 1, 0), 0);
}

TEST(HubStartTest, WhatCanNotBeListenedAtIsNamed) {
  std::string folder = "/tmp/haven-hub-test.XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const auto start = [](const std::vector<PortSpec>& ports, const std::string& control) {
    return Hub::Start(ports, control, 1, SystemClock::Get()).status();
  };
  EXPECT_TRUE(absl::IsUnavailable(start({}, "")));
  EXPECT_TRUE(absl::IsUnavailable(start({}, folder + "/" + std::string(200, 'x'))));
  const absl::Status status = start({}, folder + "/no/such/folder");
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no/such/folder"));
  EXPECT_TRUE(absl::IsAlreadyExists(
      start({{"a", "lan", folder + "/one"}, {"a", "lan", folder + "/two"}}, folder + "/control")));
  EXPECT_EQ(rmdir(folder.c_str()), 0) << std::strerror(errno);
}

}  // namespace
}  // namespace haven
