// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/exec_arbiter.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr char kGroup[] = "web";
constexpr absl::Duration kTimeout = absl::Seconds(30);

class ExecArbiterTest : public testing::Test {
 protected:
  // An arbiter whose program is this script.
  ExecArbiter Program(const std::string& script) {
    const std::string path = absl::StrCat(directory_.path(), "/program");
    WriteTestFile(path, absl::StrCat("#!/bin/sh\n", script, "\n"));
    EXPECT_EQ(chmod(path.c_str(), 0700), 0);
    return ExecArbiter(path);
  }

  RegisterAnswer Change(const std::string& script, absl::Duration timeout = kTimeout) {
    return Program(script).CompareAndSet(kGroup, request_, timeout);
  }

  // The change is unknown, with this code and these words of the cause.
  void ExpectUnknown(const std::string& script, absl::StatusCode code, const std::string& text,
                     absl::Duration timeout = kTimeout) {
    const RegisterAnswer answer = Change(script, timeout);
    EXPECT_EQ(answer.verdict, Verdict::kUnknown) << script;
    EXPECT_EQ(answer.cause.code(), code) << answer.cause;
    EXPECT_THAT(std::string(answer.cause.message()), HasSubstr(text));
    EXPECT_THAT(std::string(answer.cause.message()),
                HasSubstr(absl::StrCat("exec:", directory_.path(), "/program, group web")));
  }

  // A command that prints `value` as the program must.
  static std::string Print(const Register& value) {
    return absl::StrCat("echo '", FormatRegister(value), "'");
  }

  TestDirectory directory_;
  const RegisterRequest request_{FirstValue(), FirstValue()};
};

TEST_F(ExecArbiterTest, TheExampleConforms) {
  ASSERT_EQ(setenv("HAVEN_ARBITER_DIR", directory_.path().c_str(), 1), 0);
  const std::string program =
      std::filesystem::absolute("engine/membership/testdata/exec_arbiter_example.sh");
  ConformanceTarget target = ConformanceTargetOf(absl::StrCat("exec:", program));
  target.race_rounds = 20;
  ExpectConformance(target);
}

TEST_F(ExecArbiterTest, TheProgramIsAskedAsDocumented) {
  const std::string seen = absl::StrCat(directory_.path(), "/seen");
  const std::string record =
      absl::StrCat("printf '%s\\n' $# \"$@\" > ", seen, "; cat >> ", seen, "; ");
  EXPECT_EQ(Program(record + "echo absent").Read(kGroup, kTimeout).verdict, Verdict::kGranted);
  EXPECT_EQ(ReadTestFile(seen), "2\nread\nweb\n");
  EXPECT_EQ(Change(record + Print(request_.desired)).verdict, Verdict::kGranted);
  EXPECT_EQ(ReadTestFile(seen), absl::StrCat("2\ncas\nweb\n", FormatRegister(*request_.expected),
                                             "\n", FormatRegister(request_.desired), "\n"));
  EXPECT_EQ(Program(record + Print(request_.desired))
                .CompareAndSet(kGroup, {std::nullopt, request_.desired}, kTimeout)
                .verdict,
            Verdict::kGranted);
  EXPECT_EQ(ReadTestFile(seen),
            absl::StrCat("2\ncas\nweb\nabsent\n", FormatRegister(request_.desired), "\n"));
}

TEST_F(ExecArbiterTest, ReadsWhatTheProgramPrints) {
  const Register value = FirstValue();
  RegisterAnswer answer = Program(Print(value)).Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, value);
  answer = Program("echo absent").Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, std::nullopt);
  answer = Program("echo absent; exit 1").Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_THAT(std::string(answer.cause.message()), HasSubstr("exited with 1"));
}

TEST_F(ExecArbiterTest, AGrantIsBelievedOnlyWithTheDesiredRegister) {
  EXPECT_EQ(Change(Print(request_.desired)).current, request_.desired);
  ExpectUnknown(Print(*request_.expected), absl::StatusCode::kInternal, "says granted");
  ExpectUnknown("echo absent", absl::StatusCode::kInternal, "says granted");
}

TEST_F(ExecArbiterTest, ADenialIsJudgedByTheRegisterItShows) {
  const Register other = FirstValue();
  RegisterAnswer answer = Change(Print(other) + "; exit 1");
  EXPECT_EQ(answer.verdict, Verdict::kDenied);
  EXPECT_EQ(answer.current, other);
  EXPECT_EQ(Change("echo absent; exit 1").verdict, Verdict::kDenied);
  // Denied because an earlier try was granted.
  answer = Change(Print(request_.desired) + "; exit 1");
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, request_.desired);
  ExpectUnknown(Print(*request_.expected) + "; exit 1", absl::StatusCode::kInternal,
                "was refused although the register holds what it expects");
}

TEST_F(ExecArbiterTest, EverythingElseIsUnknown) {
  const std::string line = Print(request_.desired);
  ExpectUnknown("exit 0", absl::StatusCode::kDataLoss, "without printing a whole line");
  ExpectUnknown("exit 1", absl::StatusCode::kDataLoss, "without printing a whole line");
  ExpectUnknown("printf absent; exit 1", absl::StatusCode::kDataLoss, "a whole line");
  ExpectUnknown("echo; exit 1", absl::StatusCode::kDataLoss, "printed no register");
  ExpectUnknown(line + "; " + line, absl::StatusCode::kDataLoss, "printed no register");
  ExpectUnknown("echo hello; " + line, absl::StatusCode::kDataLoss, "starts with 'hello");
  ExpectUnknown(line + "; exit 2", absl::StatusCode::kUnavailable, "exited with 2");
  ExpectUnknown(line + "; exit 255", absl::StatusCode::kUnavailable, "exited with 255");
  ExpectUnknown(line + "; kill -SEGV $$", absl::StatusCode::kUnavailable, "ended by signal 11");
  ExpectUnknown("while :; do echo x; done", absl::StatusCode::kResourceExhausted,
                "printed more than");
  ExpectUnknown(line + "; exec sleep 1000", absl::StatusCode::kDeadlineExceeded,
                "did not end within 100ms", absl::Milliseconds(100));
  ExpectUnknown("echo 'no route to the database' >&2; exit 9", absl::StatusCode::kUnavailable,
                "its stderr begins: 'no route to the database'");
}

TEST_F(ExecArbiterTest, AMissingProgramIsUnknown) {
  const RegisterAnswer answer = ExecArbiter("/no/such/program").Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_THAT(std::string(answer.cause.message()), HasSubstr("start /no/such/program"));
}

TEST_F(ExecArbiterTest, AHungProgramIsLeftInTime) {
  const absl::Time start = absl::Now();
  EXPECT_EQ(Change("sleep 1000", absl::Milliseconds(200)).verdict, Verdict::kUnknown);
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST_F(ExecArbiterTest, AStrangeNameNeverReachesTheProgram) {
  const std::string seen = absl::StrCat(directory_.path(), "/seen");
  ExecArbiter arbiter = Program(absl::StrCat("touch ", seen, "; echo absent"));
  EXPECT_TRUE(absl::IsInvalidArgument(arbiter.Read("-x", kTimeout).cause));
  EXPECT_TRUE(absl::IsInvalidArgument(arbiter.CompareAndSet("../x", request_, kTimeout).cause));
  EXPECT_FALSE(std::filesystem::exists(seen));
}

}  // namespace
}  // namespace haven
