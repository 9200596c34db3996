// SPDX-License-Identifier: Apache-2.0
//
// For tests of a guest as the engine sees it.
#ifndef HAVEN_ENGINE_SYNTHETIC_ATTACHED_GUEST_TEST_H_
#define HAVEN_ENGINE_SYNTHETIC_ATTACHED_GUEST_TEST_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/synthetic/operator.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/testing.h"
#include "gtest/gtest.h"

namespace haven {

// A guest, and the seams to it while it is attached. It is killed at the end if it is attached
// then.
class AttachedGuestTest : public GuestTest {
 protected:
  ~AttachedGuestTest() override {
    if (connection_ == nullptr) return;
    EXPECT_TRUE(connection_->Kill().ok());
  }

  void Start(const std::string& text) {
    spec_ = *ParseSyntheticSpec(text);
    const absl::StatusOr<pid_t> pid = StartSyntheticGuest(Launch(), spec_);
    ASSERT_TRUE(pid.ok()) << pid.status();
    pid_ = *pid;
  }

  void Attach() {
    absl::StatusOr<std::shared_ptr<SyntheticConnection>> connection =
        SyntheticConnection::Attach(dir_, spec_.name);
    ASSERT_TRUE(connection.ok()) << connection.status();
    connection_ = *std::move(connection);
    EXPECT_EQ(connection_->pid(), pid_);
    domain_ = std::make_unique<SyntheticDomain>(connection_);
    suspend_ = *SyntheticSuspend::Create(connection_);
    output_ = std::make_unique<SyntheticOutput>(std::vector{connection_});
  }

  void Detach() {
    output_.reset();
    suspend_.reset();
    domain_.reset();
    connection_.reset();
  }

  SyntheticGuestInfo Query() { return *QuerySyntheticGuest(dir_, spec_.name); }

  bool AwaitProgress() {
    const uint64_t writes = Query().writes[0];
    return Eventually([&] { return Query().writes[0] > writes; });
  }

  void SuspendGuest() {
    ASSERT_TRUE(suspend_->Request().ok());
    ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kSuspended));
  }

  SyntheticSpec spec_;
  pid_t pid_ = 0;
  std::shared_ptr<SyntheticConnection> connection_;
  std::unique_ptr<SyntheticDomain> domain_;
  std::unique_ptr<SyntheticSuspend> suspend_;
  std::unique_ptr<SyntheticOutput> output_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_ATTACHED_GUEST_TEST_H_
