// SPDX-License-Identifier: Apache-2.0
#include "xen/base/qmp_lines.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "xen/base/description.h"
#include "xen/base/fake_qemu_testing.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

using Kind = QmpLine::Kind;

std::string Greeting(absl::string_view version) {
  return absl::StrCat(R"({"QMP": {"version": )", version, R"(, "capabilities": ["oob"]}})");
}

std::string WithPackage(absl::string_view package) {
  return Greeting(absl::StrCat(R"({"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ")",
                               package, R"("})"));
}

TEST(QmpVersionTest, HasTheNumbersAndThePackage) {
  EXPECT_EQ(*QmpVersion(FakeQemu::kGreeting), "7.2.22 Debian 1:7.2+dfsg-7+deb12u18+b3");
  EXPECT_EQ(*QmpVersion(WithPackage("")), "7.2.22");
  EXPECT_EQ(*QmpVersion(Greeting(R"({"qemu": {"micro": 0, "minor": 1, "major": 9}})")), "9.1.0");
  EXPECT_EQ(*QmpVersion(Greeting(R"({"qemu": {"micro": 0, "minor": 1, "major": 4294967303}})")),
            "4294967303.1.0")
      << "whole, however large";
}

TEST(QmpVersionTest, IsPrintableAndShort) {
  EXPECT_EQ(*QmpVersion(WithPackage("a\\u0007b\\n\xc3\xa4")), "7.2.22 a?b???");
  const std::string full = *QmpVersion(WithPackage(std::string(1000, 'x')));
  EXPECT_EQ(full.size(), kMaxDeviceModelVersionBytes);
  EXPECT_EQ(full, "7.2.22 " + std::string(kMaxDeviceModelVersionBytes - 7, 'x'));
}

TEST(QmpVersionTest, OtherGreetingsAreQuoted) {
  const absl::Status ssh = QmpVersion("SSH-2.0-OpenSSH\t9.2").status();
  EXPECT_TRUE(absl::IsInvalidArgument(ssh));
  EXPECT_THAT(std::string(ssh.message()), HasSubstr("SSH-2.0-OpenSSH?9.2"));
  for (const char* const greeting :
       {"", "{}", "[]", "7", R"({"QMP": []})", R"({"QMP": {"version": "7.2"}})",
        R"({"QMP": {"version": {"qemu": []}}})", R"({"QMP": {"version": {"qemu": {"major": 7}}}})",
        R"({"QMP": {"version": {"qemu": {"micro": -1, "minor": 2, "major": 7}}}})",
        R"({"QMP": {"version": {"qemu": {"micro": "1", "minor": 2, "major": 7}}}})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(QmpVersion(greeting).status())) << greeting;
  }
}

TEST(QmpRunStateTest, IsTheWordOrTheAnswerIsQuoted) {
  EXPECT_EQ(*QmpRunState(R"({"return": {"status": "inmigrate", "running": false}, "id": 5})"),
            "inmigrate");
  EXPECT_EQ(*QmpRunState(R"({"return": {"status": "a\u0007b"}})"), "a?b");
  for (const char* const answer : {"", "[]", R"({"return": {}})", R"({"return": []})",
                                   R"({"return": {"status": 7}})", R"({"status": "running"})"}) {
    const absl::Status strange = QmpRunState(answer).status();
    EXPECT_TRUE(absl::IsInvalidArgument(strange)) << answer;
    EXPECT_THAT(std::string(strange.message()), HasSubstr(answer));
  }
}

TEST(ReadQmpLineTest, AnswersHaveAnIdAndAreOkOrNot) {
  for (const char* const text :
       {R"({"return": {}, "id": 5})", R"({"id":5,"return":[]})", R"({ "id" : 5 , "return" : 0 })",
        R"({"return": "\"", "id": 5})", R"({"return": "id\\", "id": 5})"}) {
    const QmpLine line = ReadQmpLine(text);
    ASSERT_EQ(line.kind, Kind::kAnswer) << text;
    EXPECT_EQ(line.answer.id, 5u) << text;
    EXPECT_TRUE(line.answer.ok) << text;
    EXPECT_EQ(line.answer.text, text);
  }
  const QmpLine line =
      ReadQmpLine(R"({"id": 18446744073709551615, "error": {"class": "GenericError"}})");
  ASSERT_EQ(line.kind, Kind::kAnswer);
  EXPECT_EQ(line.answer.id, UINT64_MAX);
  EXPECT_FALSE(line.answer.ok);
}

TEST(ReadQmpLineTest, OnlyTheOutermostObjectCounts) {
  for (const char* const text :
       {R"({"return": {"id": 1, "event": "STOP", "error": {}}, "id": 5})",
        R"({"return": [{"id": 1}, {"event": "STOP"}], "id": 5})",
        R"({"return": "event", "id": 5, "x": "error"})",
        R"({"return": "{\"event\": \"STOP\", \"id\": 1}", "id": 5})",
        R"({"return": "}, \"id\": 1, \"error\": {", "id": 5})",
        R"({"return": "\\\", \"id\": 1, \"event\": {", "id": 5})", R"({"return": "]]]", "id": 5})",
        R"({"\"event\"": 1, "return": {}, "id": 5})"}) {
    const QmpLine line = ReadQmpLine(text);
    ASSERT_EQ(line.kind, Kind::kAnswer) << text;
    EXPECT_EQ(line.answer.id, 5u) << text;
    EXPECT_TRUE(line.answer.ok) << text;
  }
  EXPECT_EQ(ReadQmpLine(R"({"event": "X", "data": {"id": 1, "return": {}}, "timestamp": {}})").kind,
            Kind::kEvent);
}

TEST(ReadQmpLineTest, TheRestIsStrange) {
  for (const char* const text : {"",
                                 "OK",
                                 "{}",
                                 "{",
                                 "}",
                                 R"({"return": {}})",
                                 R"({"id": 5})",
                                 R"({"return": {}, "id": "5"})",
                                 R"({"return": {}, "id": -5})",
                                 R"({"return": {}, "id": 5.5})",
                                 R"({"return": {}, "id": 5e1})",
                                 R"({"return": {}, "id":)",
                                 R"({"return": {}, "id": 5)",
                                 R"({"return": {}, "id": 18446744073709551616})",
                                 R"({"return": {}, "error": {}, "id": 5})",
                                 R"({"return": {}, "id": 5}})",
                                 R"({"return": {}, "id": 5, "x": 1])",
                                 R"({"return": {}, "id": 5} x)",
                                 R"(x{"return": {}, "id": 5})",
                                 R"({"event": "STOP")",
                                 R"(["return", {"id": 5}])",
                                 R"({"return": {}, "id": 5, "x)",
                                 R"({"x": "\)",
                                 R"({"error": {"desc": "JSON parse error"}})"}) {
    EXPECT_EQ(ReadQmpLine(text).kind, Kind::kStrange) << text;
  }
}

void Receive(QmpLines& lines, absl::string_view bytes) {
  ASSERT_LE(bytes.size(), lines.Room().size());
  std::copy(bytes.begin(), bytes.end(), lines.Room().begin());
  lines.Add(bytes.size());
}

TEST(QmpLinesTest, LinesAreWholeHoweverTheyCome) {
  QmpLines lines;
  EXPECT_EQ(lines.Take(), std::nullopt);
  for (const char c : std::string("one\r")) {
    Receive(lines, absl::string_view(&c, 1));
    EXPECT_EQ(lines.Take(), std::nullopt);
  }
  Receive(lines, "\n\r\n two \t\r\nthr");
  EXPECT_EQ(lines.Take(), "one");
  EXPECT_EQ(lines.Take(), "");
  EXPECT_EQ(lines.Take(), " two");
  EXPECT_EQ(lines.Take(), std::nullopt);
  EXPECT_EQ(lines.rest(), "thr");
  Receive(lines, "ee\n");
  EXPECT_EQ(lines.Take(), "three");
  EXPECT_EQ(lines.Take(), std::nullopt);
  EXPECT_EQ(lines.Room().size(), QmpLines::kMaxLineBytes);
}

TEST(QmpLinesTest, ALineIsAsLongAsTheRoom) {
  QmpLines lines;
  Receive(lines, "short\n");
  EXPECT_EQ(lines.Take(), "short");
  EXPECT_EQ(lines.Take(), std::nullopt) << "makes room";
  Receive(lines, std::string(QmpLines::kMaxLineBytes - 1, 'x'));
  EXPECT_EQ(lines.Take(), std::nullopt);
  EXPECT_EQ(lines.Room().size(), 1u);
  Receive(lines, "\n");
  EXPECT_EQ(*lines.Take(), std::string(QmpLines::kMaxLineBytes - 1, 'x'));
  EXPECT_EQ(lines.Take(), std::nullopt);
  Receive(lines, std::string(QmpLines::kMaxLineBytes, 'y'));
  EXPECT_EQ(lines.Take(), std::nullopt);
  EXPECT_TRUE(lines.Room().empty());
  EXPECT_EQ(lines.rest().size(), QmpLines::kMaxLineBytes);
}

}  // namespace
}  // namespace haven
