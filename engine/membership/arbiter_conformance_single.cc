// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_conformance_single.h"

#include <array>
#include <cstddef>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_rules.h"

namespace haven::conformance {
namespace {

Register After(Register value) {
  value.stamp = RandomRequestId();
  return value;
}

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGranted:
      return "granted";
    case Verdict::kDenied:
      return "denied";
    case Verdict::kUnknown:
      return "unknown";
  }
  return "no verdict at all";
}

absl::Status ExpectAnswer(absl::string_view call, const RegisterAnswer& answer, Verdict verdict,
                          const std::optional<Register>& current) {
  if (answer.verdict == verdict && answer.current == current) return absl::OkStatus();
  const std::string got = answer.verdict == Verdict::kUnknown
                              ? absl::StrCat("unknown: ", answer.cause.message())
                              : absl::StrCat(VerdictName(answer.verdict), " with '",
                                             FormatRegisterOrAbsent(answer.current), "'");
  return absl::InternalError(absl::StrCat(call, ": expected ", VerdictName(verdict), " with '",
                                          FormatRegisterOrAbsent(current), "', the answer was ",
                                          got));
}

std::string DescribeChange(const std::optional<Register>& expected, const Register& desired) {
  return absl::StrCat("change from '", FormatRegisterOrAbsent(expected), "' to '",
                      FormatRegister(desired), "'");
}

}  // namespace

std::string GroupOf(const ConformanceTarget& target, absl::string_view check) {
  return absl::StrCat(target.group_prefix, "-", check);
}

Register SomeValue() {
  Register value;
  value.term = 1;
  value.owner = "host-a";
  value.stamp = RandomRequestId();
  return value;
}

Probe::Probe(const ConformanceTarget& target, absl::string_view check)
    : arbiter_(target.open()), group_(GroupOf(target, check)), timeout_(target.timeout) {}

absl::Status Probe::Reads(const std::optional<Register>& current) {
  return ExpectAnswer("read", arbiter_->Read(group_, timeout_), Verdict::kGranted, current);
}

absl::Status Probe::Grants(const std::optional<Register>& expected, const Register& desired) {
  return ExpectAnswer(DescribeChange(expected, desired),
                      arbiter_->CompareAndSet(group_, {expected, desired}, timeout_),
                      Verdict::kGranted, desired);
}

absl::Status Probe::Denies(const std::optional<Register>& expected, const Register& desired,
                           const std::optional<Register>& current) {
  return ExpectAnswer(DescribeChange(expected, desired),
                      arbiter_->CompareAndSet(group_, {expected, desired}, timeout_),
                      Verdict::kDenied, current);
}

absl::Status AbsentAtFirst(const ConformanceTarget& target) {
  return Probe(target, "absent").Reads(std::nullopt);
}

absl::Status CreatesOnlyWhenAbsent(const ConformanceTarget& target) {
  Probe probe(target, "create");
  const Register first = SomeValue();
  HAVEN_RETURN_IF_ERROR(probe.Denies(first, After(first), std::nullopt));
  HAVEN_RETURN_IF_ERROR(probe.Reads(std::nullopt));
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, first));
  HAVEN_RETURN_IF_ERROR(probe.Denies(std::nullopt, SomeValue(), first));
  return probe.Reads(first);
}

absl::Status KeepsEveryField(const ConformanceTarget& target) {
  Probe probe(target, "fields");
  std::optional<Register> before;
  Register value = SomeValue();
  value.term = 0;
  const auto change_and_read = [&]() -> absl::Status {
    value.stamp = RandomRequestId();
    HAVEN_RETURN_IF_ERROR(probe.Grants(before, value));
    before = value;
    return probe.Reads(value);
  };
  HAVEN_RETURN_IF_ERROR(change_and_read());
  value.mode = RegisterMode::kPromotable;
  value.session = std::numeric_limits<SessionId>::max();
  HAVEN_RETURN_IF_ERROR(change_and_read());
  value.mode = RegisterMode::kSolo;
  value.session = kNoSession;
  value.running = false;
  value.owner = std::string(63, 'z');
  value.term = std::numeric_limits<Term>::max() - 1;
  HAVEN_RETURN_IF_ERROR(change_and_read());
  value.owner = "A.b_c-9";
  value.term = std::numeric_limits<Term>::max();
  value.mode = RegisterMode::kNone;
  value.running = true;
  return change_and_read();
}

absl::Status ComparesTheWholeValue(const ConformanceTarget& target) {
  Probe probe(target, "compare");
  Register held = SomeValue();
  held.term = 7;
  held.mode = RegisterMode::kPromotable;
  held.session = 0x1234;
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, held));
  std::array<Register, 6> others;
  others.fill(held);
  others[0].term -= 1;
  others[1].owner = "host-b";
  others[2].session += 1;
  others[3].mode = RegisterMode::kSolo;
  others[3].session = kNoSession;
  others[4].running = !held.running;
  others[5].stamp = RandomRequestId();
  for (const Register& other : others) {
    Register desired = After(held);
    desired.term = held.term + 1;
    HAVEN_RETURN_IF_ERROR(probe.Denies(other, desired, held));
    HAVEN_RETURN_IF_ERROR(probe.Reads(held));
  }
  return probe.Grants(held, After(held));
}

absl::Status RepeatedRequestIsGranted(const ConformanceTarget& target) {
  Probe probe(target, "repeat");
  const Register first = SomeValue();
  const Register second = After(first);
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, first));
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, first));
  HAVEN_RETURN_IF_ERROR(probe.Grants(first, second));
  HAVEN_RETURN_IF_ERROR(probe.Grants(first, second));
  return probe.Reads(second);
}

absl::Status DelayedDuplicateIsDenied(const ConformanceTarget& target) {
  Probe probe(target, "delayed");
  const Register first = SomeValue();
  const Register second = After(first);
  // All of the first value but its stamp comes back.
  const Register third = After(first);
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, first));
  HAVEN_RETURN_IF_ERROR(probe.Grants(first, second));
  HAVEN_RETURN_IF_ERROR(probe.Grants(second, third));
  HAVEN_RETURN_IF_ERROR(probe.Denies(first, second, third));
  HAVEN_RETURN_IF_ERROR(probe.Denies(std::nullopt, first, third));
  return probe.Reads(third);
}

absl::Status GroupsAreSeparate(const ConformanceTarget& target) {
  // Names that differ in what a careless arbiter might cut off, split at or replace.
  constexpr std::array<absl::string_view, 6> kNames = {"g",   "g1",  "g.1",
                                                       "g_1", "g-1", "g.register"};
  std::array<Register, kNames.size()> values;
  for (size_t i = 0; i < kNames.size(); ++i) {
    Probe probe(target, kNames[i]);
    values[i] = SomeValue();
    HAVEN_RETURN_IF_ERROR(probe.Reads(std::nullopt));
    HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, values[i]));
  }
  for (size_t i = 0; i < kNames.size(); ++i) {
    HAVEN_RETURN_IF_ERROR(Probe(target, kNames[i]).Reads(values[i]));
  }
  return absl::OkStatus();
}

absl::Status RefusesStrangeNames(const ConformanceTarget& target) {
  const std::array<std::string, 10> names = {"",      ".",
                                             "../up", "a/b",
                                             "-read", "a b",
                                             "a\nb",  std::string("a\0b", 3),
                                             "\xff",  std::string(64, 'a')};
  const std::unique_ptr<Arbiter> arbiter = target.open();
  for (const std::string& name : names) {
    for (const RegisterAnswer& answer :
         {arbiter->Read(name, target.timeout),
          arbiter->CompareAndSet(name, {std::nullopt, SomeValue()}, target.timeout)}) {
      if (answer.verdict == Verdict::kUnknown && absl::IsInvalidArgument(answer.cause)) continue;
      return absl::InternalError(
          absl::StrCat("group name '", absl::CHexEscape(name), "' was not refused"));
    }
  }
  return absl::OkStatus();
}

absl::Status RefusesWrongRequests(const ConformanceTarget& target) {
  const std::unique_ptr<Arbiter> arbiter = target.open();
  const std::string group = GroupOf(target, "wrong");
  Probe probe(target, "wrong");
  const Register held = SomeValue();
  HAVEN_RETURN_IF_ERROR(probe.Grants(std::nullopt, held));
  std::array<Register, 5> wrong;
  for (Register& value : wrong) value = After(held);
  wrong[0].stamp = 0;
  wrong[1].stamp = held.stamp;
  wrong[2].term = held.term - 1;
  wrong[3].owner = "host-b";
  wrong[4].session = 5;
  for (const Register& desired : wrong) {
    const RegisterAnswer answer = arbiter->CompareAndSet(group, {held, desired}, target.timeout);
    if (answer.verdict != Verdict::kUnknown || !absl::IsInvalidArgument(answer.cause)) {
      return absl::InternalError(
          absl::StrCat("the wrong change to '", FormatRegister(desired), "' was not refused"));
    }
  }
  return probe.Reads(held);
}

absl::Status SurvivesReopening(const ConformanceTarget& target) {
  const Register first = SomeValue();
  const Register second = After(first);
  HAVEN_RETURN_IF_ERROR(Probe(target, "reopen").Grants(std::nullopt, first));
  HAVEN_RETURN_IF_ERROR(Probe(target, "reopen").Reads(first));
  HAVEN_RETURN_IF_ERROR(Probe(target, "reopen").Grants(first, second));
  return Probe(target, "reopen").Reads(second);
}

absl::Status KeepsItsTimeout(const ConformanceTarget& target) {
  const std::unique_ptr<Arbiter> arbiter = target.open();
  const std::string group = GroupOf(target, "timeout");
  constexpr absl::Duration kSlack = absl::Seconds(3);
  for (const absl::Duration timeout : {absl::ZeroDuration(), absl::Milliseconds(1)}) {
    const Deadline limit(timeout + kSlack);
    // Whatever they answer.
    static_cast<void>(arbiter->Read(group, timeout));
    static_cast<void>(arbiter->CompareAndSet(group, {std::nullopt, SomeValue()}, timeout));
    if (limit.Passed()) {
      return absl::InternalError(absl::StrCat("two calls with a timeout of ",
                                              absl::FormatDuration(timeout), " took more than ",
                                              absl::FormatDuration(kSlack)));
    }
  }
  return absl::OkStatus();
}

}  // namespace haven::conformance
