// SPDX-License-Identifier: Apache-2.0
//
// The guard with shells in place of engines and guests that note what is done to them.
#ifndef HAVEN_ENGINE_CONTROL_GUARD_TESTING_H_
#define HAVEN_ENGINE_CONTROL_GUARD_TESTING_H_

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/guard.h"
#include "engine/control/wake_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {

inline constexpr char kGroup[] = "web";
inline constexpr char kOwner[] = "host-a.0000000000000001";
inline constexpr char kOther[] = "host-b.0000000000000002";
inline constexpr SessionId kSession = 0x11;

class MockDomain : public Domain {
 public:
  MOCK_METHOD(const DomainInfo&, info, (), (const, override));
  MOCK_METHOD(const GuestMemory&, memory, (), (const, override));
  MOCK_METHOD(absl::Status, EnableLogDirty, (), (override));
  MOCK_METHOD(absl::Status, FetchAndClearDirty, (std::span<uint64_t>), (override));
  MOCK_METHOD(absl::StatusOr<uint64_t>, CountDirty, (), (override));
  MOCK_METHOD(void, DisableLogDirty, (), (override));
  MOCK_METHOD(absl::StatusOr<size_t>, CaptureState, (std::span<std::byte>), (override));
  MOCK_METHOD(size_t, max_state_bytes, (), (const, override));
  MOCK_METHOD(DomainEnd, End, (), (override));
  MOCK_METHOD(absl::Status, LetRun, (), (override));
  MOCK_METHOD(absl::Status, Destroy, (), (override));
};

class MockSuspend : public SuspendMethod {
 public:
  MOCK_METHOD(absl::Status, Request, (), (override));
  MOCK_METHOD(State, Poll, (), (override));
  MOCK_METHOD(absl::Status, Resume, (), (override));
  MOCK_METHOD(int, event_fd, (), (const, override));
};

class MockOutput : public OutputBuffer {
 public:
  MOCK_METHOD(absl::Status, Hold, (), (override));
  MOCK_METHOD(absl::Status, Barrier, (), (override));
  MOCK_METHOD(absl::Status, ReleaseOne, (), (override));
  MOCK_METHOD(absl::Status, OpenAll, (), (override));
  MOCK_METHOD(absl::Status, Rebuild, (), (override));
  MOCK_METHOD(absl::Status, Discard, (), (override));
  MOCK_METHOD(absl::Status, Remove, (), (override));
  MOCK_METHOD(OutputStats, stats, (), (override));
  MOCK_METHOD(absl::Status, Health, (), (override));
};

// Tells a test of each question before it is answered.
class WatchedArbiter final : public Arbiter {
 public:
  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override {
    if (on_read) on_read();
    if (!refusal.ok()) return {Verdict::kUnknown, std::nullopt, refusal};
    return inner.Read(group, timeout);
  }
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override {
    return inner.CompareAndSet(group, request, timeout);
  }
  std::string Describe() const override { return inner.Describe(); }

  TestArbiter inner;
  std::function<void()> on_read;
  absl::Status refusal;
};

class GuardTest : public testing::Test {
 protected:
  GuardTest() {
    record_.group = kGroup;
    record_.owner = kOwner;
    record_.phase = GroupPhase::kProtecting;
    record_.guests = {"test:g1"};
    record_.interval_us = record_.detect_us = record_.rearm_us = 1000;
    record_.pause_budget_us = record_.arbiter_timeout_us = 1000;
    record_.journal_bytes = 1 << 20;
    HAVEN_CHECK_OK(directory_.Ensure());
    options_.backoff_ns = kNsPerMs;
  }

  // `engine` sees $2: the directory, $6: the register. Each run is counted by a line in runs_.
  absl::StatusOr<GuardEnd> Run(const std::string& engine) {
    HAVEN_CHECK_OK(directory_.Save(record_));
    options_.engine_command = {
        "/bin/sh", "-c",
        absl::StrCat("echo \"$6\" >> ", runs_, "; run=$(wc -l < ", runs_, "); ", engine), "engine"};
    Guard guard(
        options_, directory_, record_, [this](const GroupRecord& record) { return Attach(record); },
        *ThreadArbiterPort::Create(arbiter_, kGroup, kTestPatience), stop_.fd());
    return guard.Run();
  }
  absl::StatusOr<GuestSet> Attach(const GroupRecord& record) {
    EXPECT_EQ(record.group, kGroup);
    Note("attach");
    if (on_attach_) on_attach_();
    if (attach_failures_ > 0) {
      --attach_failures_;
      return absl::FailedPreconditionError("the dead engine still has it");
    }
    if (gone_) return absl::NotFoundError("guest g1 does not exist");
    const auto note = [this](const char* what, int* failures = nullptr) {
      return testing::Invoke([this, what, failures] { return Act(what, failures); });
    };
    auto domain = std::make_unique<testing::StrictMock<MockDomain>>();
    auto suspend = std::make_unique<testing::StrictMock<MockSuspend>>();
    auto output = std::make_unique<testing::StrictMock<MockOutput>>();
    EXPECT_CALL(*domain, Destroy())
        .Times(testing::AnyNumber())
        .WillRepeatedly(testing::Invoke([this] {
          EXPECT_EQ(SavedPhase(), GroupPhase::kDeposed) << "written down before it is done";
          return Act("destroy", &destroy_failures_);
        }));
    EXPECT_CALL(*domain, LetRun()).Times(testing::AnyNumber()).WillRepeatedly([this] {
      return unrun_ ? Act("let run", &run_failures_) : absl::OkStatus();
    });
    EXPECT_CALL(*suspend, Resume()).Times(testing::AnyNumber()).WillRepeatedly(note("resume"));
    EXPECT_CALL(*suspend, Request()).Times(testing::AnyNumber()).WillRepeatedly(note("stop"));
    EXPECT_CALL(*suspend, Poll())
        .Times(testing::AnyNumber())
        .WillRepeatedly(testing::Invoke([this] {
          if (late_looks_ == 0) return SuspendMethod::State::kRunning;
          if (--late_looks_ == 0) {
            Note("goes on");
            went_on_ = true;
          }
          return SuspendMethod::State::kSuspended;
        }));
    EXPECT_CALL(*output, OpenAll())
        .Times(testing::AnyNumber())
        .WillRepeatedly(testing::Invoke([this] {
          if (on_open_) on_open_();
          return Act("open", &open_failures_);
        }));
    EXPECT_CALL(*output, Discard()).Times(testing::AnyNumber()).WillRepeatedly(note("discard"));
    EXPECT_CALL(*output, Remove())
        .Times(testing::AnyNumber())
        .WillRepeatedly(testing::Invoke([this] {
          EXPECT_EQ(SavedPhase(), GroupPhase::kEnding)
              << "whoever dies now, the next guard goes on";
          return Act("remove", &remove_failures_);
        }));
    GuestSet set;
    set.ended = ended_;
    set.domains.push_back(std::move(domain));
    set.suspends.push_back(std::move(suspend));
    set.output = std::move(output);
    return set;
  }
  void Note(const char* what) { notes_.push_back(what); }
  absl::Status Act(const char* what, int* failures) {
    Note(what);
    if (failures == nullptr || *failures == 0) return absl::OkStatus();
    --*failures;
    return absl::InternalError("not yet");
  }
  long Count(const char* what) const { return std::count(notes_.begin(), notes_.end(), what); }

  // What the register says at the beginning.
  void SetRegister(const std::string& owner, RegisterMode mode, bool running = true) {
    Register value;
    value.term = 1;
    value.owner = owner;
    value.mode = mode;
    value.session = mode == RegisterMode::kPromotable ? kSession : kNoSession;
    value.running = running;
    value.stamp = 0xabc;
    const RegisterAnswer answer =
        arbiter_->inner.CompareAndSet(kGroup, {std::nullopt, value}, kTestPatience);
    HAVEN_CHECK(answer.verdict == Verdict::kGranted);
  }
  std::vector<std::string> Runs() const {
    const absl::StatusOr<std::string> text = ReadBoundedFile(runs_, 1 << 16);
    if (!text.ok()) return {};
    return absl::StrSplit(*text, '\n', absl::SkipEmpty());
  }
  GroupPhase SavedPhase() const { return directory_.Load(kGroup)->phase; }

  const ShortFolder folder_;
  const GroupDirectory directory_{folder_.File("node")};
  const std::string runs_ = folder_.File("runs");
  const std::shared_ptr<WatchedArbiter> arbiter_ = std::make_shared<WatchedArbiter>();
  const WakeFd stop_ = *WakeFd::Create();
  GuardOptions options_;
  GroupRecord record_;
  std::vector<std::string> notes_;
  int attach_failures_ = 0;
  int destroy_failures_ = 0;
  bool unrun_ = false;  // The guests are copies that have not run yet.
  int run_failures_ = 0;
  int open_failures_ = 0;
  int remove_failures_ = 0;
  int late_looks_ = 0;  // So often a guest is still to stop, and then to be let go on by a look.
  std::atomic<bool> went_on_{false};
  bool gone_ = false;
  std::vector<std::string> ended_;
  std::function<void()> on_attach_;
  std::function<void()> on_open_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GUARD_TESTING_H_
