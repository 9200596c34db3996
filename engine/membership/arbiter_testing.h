// SPDX-License-Identifier: Apache-2.0
//
// What the tests of several arbiters share.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_TESTING_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_TESTING_H_

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "engine/base/short_folder_testing.h"
#include "engine/membership/arbiter_conformance.h"
#include "engine/membership/arbiter_factory.h"
#include "engine/membership/arbiter_storage.h"
#include "gtest/gtest.h"

namespace haven {

// The program that races (ConformanceTarget), below the directory in which Bazel runs a test.
inline constexpr char kRacerProgram[] = "engine/membership/arbiter_conformance";

// An empty directory that goes with the object.
class TestDirectory {
 public:
  const std::string& path() const { return path_; }

  // Makes it one that file arbiters use.
  void CreateMarker() const { std::ofstream(absl::StrCat(path_, "/", kArbiterMarkerName)); }

 private:
  const ShortFolder folder_;
  const std::string path_ = folder_.path();
};

inline std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteTestFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline ConformanceTarget ConformanceTargetOf(const std::string& spec) {
  ConformanceTarget target;
  target.open = [spec] { return MakeArbiter(spec).value(); };
  target.spec = spec;
  target.racer_program = kRacerProgram;
  target.group_prefix = absl::StrFormat("test-%016x", RandomRequestId());
  return target;
}

// Runs every check; each failure is one of the test.
inline void ExpectConformance(const ConformanceTarget& target) {
  for (const ConformanceCheck& check : ArbiterConformanceChecks()) {
    const absl::Status status = check.run(target);
    EXPECT_TRUE(status.ok()) << check.name << ": " << status;
  }
}

// A valid value to begin with, and one that may follow `before`.
inline Register FirstValue() {
  return {1, "host-a", RegisterMode::kNone, kNoSession, true, RandomRequestId()};
}
inline Register NextValue(Register before) {
  before.stamp = RandomRequestId();
  return before;
}

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_TESTING_H_
