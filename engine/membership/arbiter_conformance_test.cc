// SPDX-License-Identifier: Apache-2.0
//
// The checks bite: each deliberately broken arbiter is caught by the check that is for it.
#include "engine/membership/arbiter_conformance.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;

// What is kept between openings of one arbiter.
struct Store {
  std::mutex mutex;
  std::map<std::string, Register> registers;
};

enum class Fault {
  kNone,
  kReadsADefault,          // An absent register is read as one with default values.
  kCreatesAgain,           // A creation does not look whether there is a register.
  kForgetsRunning,         // One field is not kept.
  kComparesTermsOnly,      // The expected value is compared by its term.
  kDeniesWithoutValue,     // A denial does not show the register.
  kDeniesRepetitions,      // Its own stamp is not recognised.
  kGrantsEveryRepetition,  // A request seen once is granted for ever.
  kCutsGroupNames,         // Names are cut off at the first dot.
  kTakesAnyName,           // Strange names are not refused.
  kTakesAnyRequest,        // Wrong requests are not refused.
  kForgetsOnClose,         // Another opening sees nothing.
  kIgnoresTimeouts,        // Every call takes its time.
  kComparesUnlocked,       // Between comparison and change somebody else may come.
};

class FaultyArbiter final : public Arbiter {
 public:
  FaultyArbiter(Fault fault, std::shared_ptr<Store> store)
      : fault_(fault), store_(std::move(store)) {}

  RegisterAnswer Read(absl::string_view group, absl::Duration) override {
    TakeTime();
    if (const absl::Status valid = CheckName(group); !valid.ok()) {
      return UnknownAnswer(Describe(), group, valid);
    }
    const std::lock_guard<std::mutex> lock(store_->mutex);
    std::optional<Register> current = Find(group);
    if (fault_ == Fault::kReadsADefault && !current) current = Register{};
    return GrantedAnswer(current);
  }

  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration) override {
    TakeTime();
    if (const absl::Status valid = CheckName(group); !valid.ok()) {
      return UnknownAnswer(Describe(), group, valid);
    }
    if (const absl::Status valid = ValidateRequest(request);
        !valid.ok() && fault_ != Fault::kTakesAnyRequest) {
      return UnknownAnswer(Describe(), group, valid);
    }
    std::unique_lock<std::mutex> lock(store_->mutex);
    std::optional<Register> current = Find(group);
    const ChangeStep step = Decide(current, request);
    if (step == ChangeStep::kDenied) {
      return DeniedAnswer(fault_ == Fault::kDeniesWithoutValue ? std::nullopt : current);
    }
    if (step == ChangeStep::kGranted) return GrantedAnswer(request.desired);
    if (fault_ == Fault::kComparesUnlocked) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    Register kept = request.desired;
    if (fault_ == Fault::kForgetsRunning) kept.running = true;
    store_->registers[Key(group)] = kept;
    seen_.insert(request.desired.stamp);
    return GrantedAnswer(request.desired);
  }

  std::string Describe() const override { return "faulty"; }

 private:
  ChangeStep Decide(const std::optional<Register>& current, const RegisterRequest& request) {
    const Register& desired = request.desired;
    if (fault_ == Fault::kGrantsEveryRepetition && seen_.count(desired.stamp) > 0) {
      return ChangeStep::kGranted;
    }
    if (fault_ == Fault::kCreatesAgain && !request.expected) return ChangeStep::kWrite;
    if (fault_ == Fault::kComparesTermsOnly && current && request.expected &&
        current->stamp != desired.stamp) {
      return current->term == request.expected->term ? ChangeStep::kWrite : ChangeStep::kDenied;
    }
    const ChangeStep step = DecideChange(current, request).value_or(ChangeStep::kDenied);
    return step == ChangeStep::kGranted && fault_ == Fault::kDeniesRepetitions ? ChangeStep::kDenied
                                                                               : step;
  }

  void TakeTime() const {
    constexpr absl::Duration kTooLong = absl::Milliseconds(1600);
    if (fault_ == Fault::kIgnoresTimeouts) Deadline(kTooLong).Pause(kTooLong);
  }
  absl::Status CheckName(absl::string_view group) const {
    return fault_ == Fault::kTakesAnyName ? absl::OkStatus() : ValidateGroupName(group);
  }
  std::string Key(absl::string_view group) const {
    if (fault_ == Fault::kCutsGroupNames) group = group.substr(0, group.find('.'));
    return std::string(group);
  }
  std::optional<Register> Find(absl::string_view group) const {
    const auto found = store_->registers.find(Key(group));
    if (found == store_->registers.end()) return std::nullopt;
    return found->second;
  }

  const Fault fault_;
  const std::shared_ptr<Store> store_;
  std::set<RequestId> seen_;
};

constexpr char kEveryCheck[] = "";

// The names of the checks that fail, of all or of one. The race of processes needs a real arbiter
// and is not run.
std::set<std::string> FailedChecks(Fault fault, const std::string& only) {
  auto store = std::make_shared<Store>();
  ConformanceTarget target;
  target.open = [fault, store] {
    return std::make_unique<FaultyArbiter>(
        fault, fault == Fault::kForgetsOnClose ? std::make_shared<Store>() : store);
  };
  target.group_prefix = "faulty";
  target.race_rounds = 2000;
  std::set<std::string> failed;
  for (const ConformanceCheck& check : ArbiterConformanceChecks()) {
    if (check.name == std::string("one-process-wins")) continue;
    if (only != kEveryCheck && check.name != only) continue;
    if (!check.run(target).ok()) failed.insert(check.name);
  }
  return failed;
}

TEST(ConformanceTest, ACorrectArbiterPasses) {
  EXPECT_THAT(FailedChecks(Fault::kNone, kEveryCheck), IsEmpty());
}

TEST(ConformanceTest, EachFaultIsCaughtByItsCheck) {
  const std::pair<Fault, std::string> cases[] = {
      {Fault::kReadsADefault, "absent-at-first"},
      {Fault::kCreatesAgain, "creates-only-when-absent"},
      {Fault::kForgetsRunning, "keeps-every-field"},
      {Fault::kComparesTermsOnly, "compares-the-whole-value"},
      {Fault::kDeniesWithoutValue, "compares-the-whole-value"},
      {Fault::kDeniesRepetitions, "repeated-request-is-granted"},
      {Fault::kGrantsEveryRepetition, "delayed-duplicate-is-denied"},
      {Fault::kCutsGroupNames, "groups-are-separate"},
      {Fault::kTakesAnyName, "refuses-strange-names"},
      {Fault::kTakesAnyRequest, "refuses-wrong-requests"},
      {Fault::kForgetsOnClose, "survives-reopening"},
      {Fault::kIgnoresTimeouts, "keeps-its-timeout"},
      {Fault::kComparesUnlocked, "one-thread-wins"},
  };
  for (const auto& [fault, check] : cases) {
    EXPECT_THAT(FailedChecks(fault, check), Contains(check)) << static_cast<int>(fault);
  }
}

TEST(RaceTest, ResultsComeBackFromText) {
  EXPECT_EQ(FormatRaceResult({{1, 4, 5}, 2}), "unknown=2 granted=1,4,5");
  const absl::StatusOr<RaceResult> result = ParseRaceResult("unknown=2 granted=1,4,5");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->granted, (std::vector<Term>{1, 4, 5}));
  EXPECT_EQ(result->unknown_answers, 2u);
  EXPECT_THAT(ParseRaceResult(FormatRaceResult({}))->granted, IsEmpty());
  for (const char* text : {"", "unknown=0", "granted=1 unknown=0", "unknown=x granted=1",
                           "unknown=0 granted=1,x", "unknown=0 granted=1 more"}) {
    EXPECT_FALSE(ParseRaceResult(text).ok()) << text;
  }
}

TEST(RaceTest, EveryTermIsForOneContender) {
  const auto check = [](std::vector<RaceResult> contenders, bool late = false) {
    return CheckRace(contenders, 3, late);
  };
  EXPECT_TRUE(check({{{1, 3}, 0}, {{2}, 0}}).ok());
  EXPECT_TRUE(absl::IsInternal(check({{{1, 3}, 0}, {{2, 3}, 0}})));
  EXPECT_TRUE(absl::IsInternal(check({{{1, 3}, 5}, {{2, 3}, 0}}, true)));
  EXPECT_TRUE(absl::IsInternal(check({{{1}, 0}, {{2}, 0}})));
  EXPECT_TRUE(check({{{1}, 0}, {{2}, 1}}).ok());
  EXPECT_TRUE(check({{{1}, 0}, {{2}, 0}}, true).ok());
}

TEST(RaceTest, CreatesTheRegisterAndEndsAtItsTerm) {
  auto store = std::make_shared<Store>();
  FaultyArbiter arbiter(Fault::kNone, store);
  const absl::StatusOr<RaceResult> result =
      RunRace(arbiter, "g", "host-a", 3, absl::Seconds(1), absl::Seconds(30));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(FormatRaceResult(*result), "unknown=0 granted=1,2,3");
  EXPECT_EQ(store->registers["g"].term, 3u);
  EXPECT_EQ(store->registers["g"].owner, "host-a");
}

TEST(RaceTest, EndsWithItsLimit) {
  FaultyArbiter arbiter(Fault::kNone, std::make_shared<Store>());
  for (const char* group : {"g", "../g"}) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        RunRace(arbiter, group, "a", UINT64_MAX, absl::Seconds(1), absl::Milliseconds(50))
            .status()));
  }
}

}  // namespace
}  // namespace haven
