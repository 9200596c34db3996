// SPDX-License-Identifier: Apache-2.0
//
// Several contenders, one register: who is granted what.
#include <sys/random.h>

#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/check.h"
#include "engine/membership/arbiter_conformance.h"
#include "engine/membership/arbiter_deadline.h"

namespace haven {
namespace {

absl::Status OutOfTime(const RegisterAnswer& last, const Deadline& deadline) {
  return absl::DeadlineExceededError(
      absl::StrCat("the race was not over after ", absl::FormatDuration(deadline.timeout()),
                   last.verdict == Verdict::kUnknown
                       ? absl::StrCat("; the last answer was unknown: ", last.cause.message())
                       : std::string()));
}

}  // namespace

RequestId RandomRequestId() {
  RequestId id = 0;
  while (id == 0) HAVEN_CHECK_EQ(getrandom(&id, sizeof(id), 0), sizeof(id));
  return id;
}

absl::StatusOr<RaceResult> RunRace(Arbiter& arbiter, const std::string& group,
                                   const std::string& owner, uint64_t rounds,
                                   absl::Duration timeout, absl::Duration limit) {
  const Deadline deadline(limit);
  RaceResult result;
  RegisterAnswer answer;
  // Asks until there is an answer; false at the end of the time.
  const auto resolve = [&](const auto& ask) {
    for (;;) {
      if (deadline.Passed()) return false;
      answer = ask();
      if (answer.verdict != Verdict::kUnknown) return true;
      ++result.unknown_answers;
    }
  };
  if (!resolve([&] { return arbiter.Read(group, timeout); })) return OutOfTime(answer, deadline);
  while (!answer.current.has_value() || answer.current->term < rounds) {
    RegisterRequest request{answer.current, answer.current.value_or(Register{})};
    if (request.expected.has_value()) request.desired.term += 1;
    request.desired.owner = owner;
    request.desired.stamp = RandomRequestId();
    if (!resolve([&] { return arbiter.CompareAndSet(group, request, timeout); })) {
      return OutOfTime(answer, deadline);
    }
    if (answer.verdict == Verdict::kGranted && request.expected.has_value()) {
      result.granted.push_back(request.desired.term);
    }
  }
  return result;
}

std::string FormatRaceResult(const RaceResult& result) {
  return absl::StrCat("unknown=", result.unknown_answers,
                      " granted=", absl::StrJoin(result.granted, ","));
}

absl::StatusOr<RaceResult> ParseRaceResult(const std::string& text) {
  const absl::Status error =
      absl::InvalidArgumentError(absl::StrCat("'", text, "' is no result of a race"));
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ' ');
  if (parts.size() != 2) return error;
  absl::string_view unknown = parts[0];
  absl::string_view granted = parts[1];
  RaceResult result;
  if (!absl::ConsumePrefix(&unknown, "unknown=") || !absl::ConsumePrefix(&granted, "granted=") ||
      !absl::SimpleAtoi(unknown, &result.unknown_answers)) {
    return error;
  }
  for (const absl::string_view term : absl::StrSplit(granted, ',', absl::SkipEmpty())) {
    if (!absl::SimpleAtoi(term, &result.granted.emplace_back())) return error;
  }
  return result;
}

absl::Status CheckRace(std::span<const RaceResult> contenders, uint64_t rounds,
                       bool grants_come_late) {
  std::map<Term, size_t> grants;
  uint64_t unknown_answers = 0;
  for (const RaceResult& contender : contenders) {
    unknown_answers += contender.unknown_answers;
    for (const Term term : contender.granted) ++grants[term];
  }
  for (const auto& [term, count] : grants) {
    if (count > 1) {
      return absl::InternalError(absl::StrCat("the change to term ", term, " was granted to ",
                                              count, " contenders at once"));
    }
  }
  // A grant whose answer was lost, and whose value another one replaced before it was asked for
  // again, is rightly answered by a denial.
  if (unknown_answers > 0 || grants_come_late) return absl::OkStatus();
  for (Term term = 1; term <= rounds; ++term) {
    if (grants.count(term) == 0) {
      return absl::InternalError(absl::StrCat("the change to term ", term,
                                              " was made and granted to none of the contenders"));
    }
  }
  return absl::OkStatus();
}

}  // namespace haven
