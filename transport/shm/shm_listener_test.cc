// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "engine/base/short_folder_testing.h"
#include "transport/shm/shm_transport.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::HasSubstr;

class ShmListenerTest : public testing::Test {
 protected:
  absl::StatusCode ListenCode() { return ShmListener::Listen(address_).status().code(); }

  // A plain connect(2), without the handshake.
  static UniqueFd ConnectTo(absl::string_view address) {
    const ShmAddress parsed = *ShmAddress::Parse(address);
    UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(socket_fd.get(), parsed.raw(), parsed.raw_bytes()) != 0) return UniqueFd();
    return socket_fd;
  }

  const ShortFolder temp_;
  const std::filesystem::path directory_ = temp_.path();
  const std::filesystem::path path_ = directory_ / "b.sock";
  const std::string address_ = "unix:" + path_.string();
};

TEST_F(ShmListenerTest, AcceptsWhoeverConnectsAndNeverBlocks) {
  const auto listener = ShmListener::Listen(address_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ((*listener)->address(), address_);
  EXPECT_FALSE((*listener)->Accept()->has_value());
  const UniqueFd first = ConnectTo(address_);
  const UniqueFd second = ConnectTo(address_);
  EXPECT_NE(PollNow((*listener)->fd(), POLLIN), 0);
  for (int i = 0; i < 2; ++i) {
    const auto accepted = (*listener)->Accept();
    ASSERT_TRUE(accepted.ok()) << accepted.status();
    ASSERT_TRUE(accepted->has_value());
    const UniqueFd fd(**accepted);
    EXPECT_EQ(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  }
  EXPECT_FALSE((*listener)->Accept()->has_value());
}

TEST_F(ShmListenerTest, OnlyItsUserMayConnect) {
  const mode_t mask = umask(0);
  const auto listener = ShmListener::Listen(address_);
  umask(mask);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(ShmListenerTest, ALiveListenerIsNotReplaced) {
  const auto listener = ShmListener::Listen(address_);
  const absl::Status refused = ShmListener::Listen(address_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(address_));
  // The look at it has left a connection that is gone already; the next one is served.
  EXPECT_TRUE(ConnectTo(address_).valid());
}

TEST_F(ShmListenerTest, ABusyListenerIsNotTakenForADeadOne) {
  const auto listener = ShmListener::Listen(address_);
  const ShmAddress parsed = *ShmAddress::Parse(address_);
  std::vector<UniqueFd> waiting;
  for (;;) {
    waiting.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (connect(waiting.back().get(), parsed.raw(), parsed.raw_bytes()) != 0) break;
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(ListenCode(), absl::StatusCode::kAlreadyExists);
  // One that wants to connect is told that the listener does not answer.
  ShmTransport transport;
  EXPECT_EQ(transport.Connect(address_, absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ShmListenerTest, TheFileOfAKilledListenerIsReplaced) {
  SocketPair ready;
  ForkedPeer child([&] {
    const auto listener = ShmListener::Listen(address_);
    if (!listener.ok() || write(ready.connector.get(), "r", 1) != 1) return 1;
    for (;;) pause();
  });
  char byte;
  ASSERT_EQ(read(ready.acceptor.get(), &byte, 1), 1);
  EXPECT_EQ(ListenCode(), absl::StatusCode::kAlreadyExists);
  child.Kill(SIGKILL);
  child.Wait();
  ASSERT_TRUE(std::filesystem::exists(path_));
  EXPECT_FALSE(ConnectTo(address_).valid());
  const auto listener = ShmListener::Listen(address_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(ConnectTo(address_).valid());
}

TEST_F(ShmListenerTest, LeavesNothingBehind) {
  const int fds_before = CountOpenFds();
  {
    const auto listener = ShmListener::Listen(address_);
    EXPECT_TRUE(std::filesystem::exists(path_));
    EXPECT_EQ(ListenCode(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST_F(ShmListenerTest, AChildThatDropsItsCopyLeavesTheFile) {
  auto listener = ShmListener::Listen(address_);
  ForkedPeer child([&] {
    listener->reset();
    return 0;
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_TRUE(ConnectTo(address_).valid());
}

TEST_F(ShmListenerTest, AnotherKindOfFileIsNotTouched) {
  std::ofstream(path_) << "precious";
  EXPECT_EQ(ListenCode(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
  std::filesystem::remove(path_);
  std::filesystem::create_symlink(directory_ / "elsewhere", path_);
  EXPECT_EQ(ListenCode(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(std::filesystem::is_symlink(path_));
}

TEST_F(ShmListenerTest, TwoThatStartAtOnceAreKeptApart) {
  const UniqueFd folder(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(folder.get(), LOCK_EX), 0);
  const absl::Status refused = ShmListener::Listen(address_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable) << refused;
  ASSERT_EQ(flock(folder.get(), LOCK_UN), 0);
  const auto listener = ShmListener::Listen(address_);
  ASSERT_TRUE(listener.ok());
  // The lock is not held for longer than the start.
  EXPECT_EQ(flock(folder.get(), LOCK_EX | LOCK_NB), 0);
}

TEST_F(ShmListenerTest, BadPlacesAreErrors) {
  EXPECT_EQ(ShmListener::Listen("unix:" + (directory_ / "none/b.sock").string()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(ShmListener::Listen("unix:/proc/b.sock").ok(), false);
  EXPECT_EQ(ShmListener::Listen("tcp:1.2.3.4").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ShmListenerTest, AbstractNames) {
  const std::string name = "unix:@haven-listener-test-" + std::to_string(getpid());
  {
    const auto listener = ShmListener::Listen(name);
    ASSERT_TRUE(listener.ok()) << listener.status();
    EXPECT_EQ((*listener)->address(), name);
    EXPECT_TRUE(ConnectTo(name).valid());
    EXPECT_EQ(ShmListener::Listen(name).status().code(), absl::StatusCode::kAlreadyExists);
  }
  EXPECT_TRUE(ShmListener::Listen(name).ok());
}

TEST_F(ShmListenerTest, AnEmptyAddressMeansAnyFreeOne) {
  const auto first = ShmListener::Listen("");
  const auto second = ShmListener::Listen("");
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE((*first)->address(), (*second)->address());
  EXPECT_TRUE(absl::StartsWith((*first)->address(), "unix:@"));
  EXPECT_TRUE(ConnectTo((*first)->address()).valid());
}

}  // namespace
}  // namespace haven
