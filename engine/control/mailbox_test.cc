// SPDX-License-Identifier: Apache-2.0
#include "engine/control/mailbox.h"

#include <poll.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/control/control_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using TestMailbox = Mailbox<int, std::string>;

bool IsReadable(int fd) {
  pollfd watched = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&watched, 1, 0) == 1;
}

TEST(MailboxTest, EachCallerGetsItsOwnReply) {
  const std::unique_ptr<TestMailbox> mailbox = *TestMailbox::Create();
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&, i] {
      const absl::StatusOr<std::string> reply = mailbox->Call(i, kTestPatience);
      if (reply.ok() && *reply == std::to_string(i)) ++right;
    });
  }
  ASSERT_TRUE(WaitFor([&] {
    mailbox->Serve([](int command) { return std::to_string(command); });
    return right == 8;
  }));
  for (std::thread& caller : callers) caller.join();
  EXPECT_FALSE(IsReadable(mailbox->fd()));
}

TEST(MailboxTest, ACommandWhoseCallerGaveUpIsNotCarriedOut) {
  const std::unique_ptr<TestMailbox> mailbox = *TestMailbox::Create();
  EXPECT_TRUE(absl::IsDeadlineExceeded(mailbox->Call(1, absl::Milliseconds(5)).status()));
  EXPECT_TRUE(IsReadable(mailbox->fd()));
  int served = 0;
  mailbox->Serve([&](int) {
    ++served;
    return std::string();
  });
  EXPECT_EQ(served, 0);
}

TEST(MailboxTest, AClosedOneTurnsEverybodyAway) {
  const std::unique_ptr<TestMailbox> mailbox = *TestMailbox::Create();
  absl::StatusOr<std::string> waiting;
  std::thread caller([&] { waiting = mailbox->Call(1, kTestPatience); });
  ASSERT_TRUE(WaitFor([&] { return IsReadable(mailbox->fd()); }));
  mailbox->Close();
  caller.join();
  EXPECT_TRUE(absl::IsUnavailable(waiting.status()));
  EXPECT_TRUE(absl::IsUnavailable(mailbox->Call(2, kTestPatience).status()));
}

TEST(MailboxTest, HoldsALimitedNumber) {
  const std::unique_ptr<TestMailbox> mailbox = *TestMailbox::Create();
  std::atomic<size_t> refused{0};
  std::atomic<size_t> replied{0};
  std::vector<std::thread> callers;
  for (size_t i = 0; i < TestMailbox::kMaxWaiting + 3; ++i) {
    callers.emplace_back([&] {
      const absl::StatusOr<std::string> reply = mailbox->Call(0, kTestPatience);
      if (reply.ok()) ++replied;
      if (absl::IsResourceExhausted(reply.status())) ++refused;
    });
  }
  ASSERT_TRUE(WaitFor([&] { return refused == 3; }));
  mailbox->Serve([](int) { return std::string(); });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(replied, TestMailbox::kMaxWaiting);
}

}  // namespace
}  // namespace haven
