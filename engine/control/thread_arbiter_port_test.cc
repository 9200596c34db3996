// SPDX-License-Identifier: Apache-2.0
#include "engine/control/thread_arbiter_port.h"

#include <poll.h>

#include "engine/control/control_testing.h"
#include "engine/control/system_ids.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

class ThreadArbiterPortTest : public testing::Test {
 protected:
  RegisterAnswer Await() {
    std::optional<RegisterAnswer> answer;
    EXPECT_TRUE(WaitFor([&] { return (answer = port_->Next()).has_value(); }));
    return answer.value_or(RegisterAnswer{});
  }
  RegisterRequest Create() {
    RegisterRequest request;
    request.desired.term = 1;
    request.desired.owner = "host-a.1";
    request.desired.stamp = ids_.NextId();
    return request;
  }

  SystemIds ids_;
  const std::shared_ptr<TestArbiter> arbiter_ = std::make_shared<TestArbiter>();
  const std::unique_ptr<ThreadArbiterPort> port_ =
      *ThreadArbiterPort::Create(arbiter_, "web", kTestPatience);
};

TEST_F(ThreadArbiterPortTest, EachCallGetsOneAnswer) {
  EXPECT_EQ(port_->name(), "test arbiter");
  EXPECT_FALSE(port_->Next().has_value());
  EXPECT_FALSE(port_->last_answer().any);
  port_->SubmitRead();
  RegisterAnswer answer = Await();
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_FALSE(answer.current.has_value());
  EXPECT_FALSE(port_->Next().has_value());
  const RegisterRequest request = Create();
  port_->SubmitChange(request);
  answer = Await();
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, request.desired);
  port_->SubmitChange(Create());
  EXPECT_EQ(Await().verdict, Verdict::kDenied);
  EXPECT_TRUE(port_->last_answer().any);
  EXPECT_EQ(port_->last_answer().verdict, Verdict::kDenied);
}

TEST_F(ThreadArbiterPortTest, ItsDescriptorAnnouncesTheAnswer) {
  port_->SubmitRead();
  pollfd watched = {.fd = port_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&watched, 1, 60'000), 1);
  EXPECT_TRUE(port_->Next().has_value());
  EXPECT_EQ(poll(&watched, 1, 0), 0);
}

TEST_F(ThreadArbiterPortTest, ACallThatIsNotTakenIsAnsweredByUnknown) {
  port_->SubmitRead();
  // A second one before the first is answered is not taken by the thread.
  port_->SubmitRead();
  EXPECT_TRUE(port_->ready());
  const std::optional<RegisterAnswer> answer = port_->Next();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsFailedPrecondition(answer->cause));
  EXPECT_FALSE(port_->ready());
  EXPECT_TRUE(absl::IsFailedPrecondition(port_->last_answer().cause));
}

TEST_F(ThreadArbiterPortTest, ASilentArbiterIsUnknown) {
  arbiter_->set_silent(true);
  port_->SubmitRead();
  EXPECT_EQ(Await().verdict, Verdict::kUnknown);
  EXPECT_FALSE(port_->last_answer().cause.ok());
}

TEST(VerdictNameTest, HasAWordForEach) {
  EXPECT_STREQ(VerdictName(Verdict::kGranted), "granted");
  EXPECT_STREQ(VerdictName(Verdict::kDenied), "denied");
  EXPECT_STREQ(VerdictName(Verdict::kUnknown), "unknown");
}

TEST(SystemIdsTest, AreNeverZeroNorTheSame) {
  SystemIds ids;
  uint64_t before = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t id = ids.NextId();
    EXPECT_NE(id, 0u);
    EXPECT_NE(id, before);
    before = id;
  }
}

}  // namespace
}  // namespace haven
