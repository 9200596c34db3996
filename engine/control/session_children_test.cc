// SPDX-License-Identifier: Apache-2.0
//
// With shells in place of sessions.
#include "engine/control/session_children.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "engine/control/control_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Two ends of a connection by TCP, from 127.0.0.1 or another loopback address.
class Connection {
 public:
  explicit Connection(const std::string& from = "127.0.0.1") {
    const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = At("127.0.0.1");
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    socklen_t bytes = sizeof(address);
    EXPECT_EQ(bind(listener.get(), raw, bytes), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    EXPECT_EQ(getsockname(listener.get(), raw, &bytes), 0);
    client = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in own = At(from);
    EXPECT_EQ(bind(client.get(), reinterpret_cast<const sockaddr*>(&own), sizeof(own)), 0);
    EXPECT_EQ(connect(client.get(), raw, bytes), 0);
    server = UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(server.valid());
  }

  UniqueFd client;
  UniqueFd server;

 private:
  static sockaddr_in At(const std::string& host) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, host.c_str(), &address.sin_addr);
    return address;
  }
};

class SessionChildrenTest : public testing::Test {
 protected:
  static std::vector<std::string> Shell(const std::string& script) {
    return {"/bin/sh", "-c", script};
  }
  absl::Status Start(const Connection& connection, const std::string& script = "read x <&3") {
    return children_.Start(Shell(script), connection.server);
  }
  // Until there is room, or not.
  bool BecomesFull(bool full) {
    return WaitFor([&] {
      children_.Look();
      return children_.full() == full;
    });
  }
  static void End(const Connection& connection) {
    EXPECT_EQ(write(connection.client.get(), "\n", 1), 1);
  }

  ChildLimits limits_ = {.processes = 4, .strangers = 2, .strangers_per_address = 2};
  SessionChildren children_{limits_};
};

TEST_F(SessionChildrenTest, StrangersAreFewerThanProcesses) {
  const Connection first;
  const Connection second;
  ASSERT_TRUE(Start(first).ok());
  EXPECT_FALSE(children_.full());
  ASSERT_TRUE(Start(second).ok());
  EXPECT_TRUE(children_.full());
  End(first);
  EXPECT_TRUE(BecomesFull(false));
  End(second);
}

TEST_F(SessionChildrenTest, WhosePeerIsKnownIsAStrangerNoMore) {
  const std::string known = "printf k >&4; exec 4>&-; read x <&3";
  std::vector<Connection> connections(4);
  for (const Connection& one : connections) {
    ASSERT_TRUE(Start(one, known).ok());
    const bool last = &one == &connections.back();
    EXPECT_TRUE(BecomesFull(last));
  }
  End(connections[0]);
  EXPECT_TRUE(BecomesFull(false));
  for (const Connection& one : connections) End(one);
}

TEST_F(SessionChildrenTest, WhoSaysSomethingElseStaysAStranger) {
  const Connection first;
  const Connection second;
  ASSERT_TRUE(Start(first, "printf x >&4; exec 4>&-; echo told >&3; read x <&3").ok());
  char byte = 0;
  ASSERT_EQ(read(first.client.get(), &byte, 1), 1);
  ASSERT_TRUE(Start(second).ok());
  children_.Look();
  EXPECT_TRUE(children_.full());
  End(first);
  End(second);
}

TEST_F(SessionChildrenTest, OneAddressDoesNotKeepTheOthersOut) {
  SessionChildren children({.processes = 9, .strangers = 9, .strangers_per_address = 1});
  const Connection first("127.0.0.2");
  const Connection second("127.0.0.2");
  const Connection other("127.0.0.3");
  const std::vector<std::string> command = Shell("read x <&3");
  ASSERT_TRUE(children.Start(command, first.server).ok());
  EXPECT_TRUE(absl::IsAborted(children.Start(command, second.server)));
  EXPECT_TRUE(children.Start(command, other.server).ok());
  End(first);
  EXPECT_TRUE(WaitFor([&] {
    children.Look();
    return children.Start(Shell("true"), second.server).ok();
  }));
  End(other);
}

TEST_F(SessionChildrenTest, AStrangersTimeEnds) {
  SessionChildren children({.processes = 1, .stranger_time = absl::Milliseconds(50)});
  Connection stranger;
  ASSERT_TRUE(children.Start(Shell("exec sleep 600"), stranger.server).ok());
  stranger.server.reset();
  EXPECT_TRUE(WaitFor([&] {
    children.Look();
    return !children.full();
  }));
  char byte = 0;
  EXPECT_EQ(read(stranger.client.get(), &byte, 1), 0);
}

TEST_F(SessionChildrenTest, WhatASessionSaysIsSeenByPoll) {
  const Connection connection;
  ASSERT_TRUE(Start(connection, "printf k >&4; read x <&3").ok());
  std::vector<pollfd> fds;
  children_.Watch(fds);
  ASSERT_EQ(fds.size(), 1u);
  EXPECT_EQ(poll(fds.data(), fds.size(), 10'000), 1);
  children_.Look();
  fds.clear();
  children_.Watch(fds);
  EXPECT_TRUE(fds.empty());
  End(connection);
}

}  // namespace
}  // namespace haven
