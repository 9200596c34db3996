// SPDX-License-Identifier: Apache-2.0
//
// The conformance checks that need one caller at a time, and what they are made of.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_SINGLE_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_SINGLE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/arbiter_conformance.h"
#include "engine/membership/register.h"

namespace haven::conformance {

// The group in which a check works.
std::string GroupOf(const ConformanceTarget& target, absl::string_view check);

// A valid register with a stamp of its own.
Register SomeValue();

// One opening of the arbiter and one group, with calls that return Internal, with both sides,
// unless they are answered as expected.
class Probe {
 public:
  Probe(const ConformanceTarget& target, absl::string_view check);

  absl::Status Reads(const std::optional<Register>& current);
  absl::Status Grants(const std::optional<Register>& expected, const Register& desired);
  absl::Status Denies(const std::optional<Register>& expected, const Register& desired,
                      const std::optional<Register>& current);

 private:
  const std::unique_ptr<Arbiter> arbiter_;
  const std::string group_;
  const absl::Duration timeout_;
};

// The checks; ArbiterConformanceChecks says what each is for.
absl::Status AbsentAtFirst(const ConformanceTarget& target);
absl::Status CreatesOnlyWhenAbsent(const ConformanceTarget& target);
absl::Status KeepsEveryField(const ConformanceTarget& target);
absl::Status ComparesTheWholeValue(const ConformanceTarget& target);
absl::Status RepeatedRequestIsGranted(const ConformanceTarget& target);
absl::Status DelayedDuplicateIsDenied(const ConformanceTarget& target);
absl::Status GroupsAreSeparate(const ConformanceTarget& target);
absl::Status RefusesStrangeNames(const ConformanceTarget& target);
absl::Status RefusesWrongRequests(const ConformanceTarget& target);
absl::Status SurvivesReopening(const ConformanceTarget& target);
absl::Status KeepsItsTimeout(const ConformanceTarget& target);

}  // namespace haven::conformance

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_CONFORMANCE_SINGLE_H_
