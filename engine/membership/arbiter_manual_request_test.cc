// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_manual_request.h"

#include <string>

#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

const Register kBefore{4, "host-a", RegisterMode::kPromotable, 0xabc, true, 1};

Register After(RegisterMode mode) {
  Register value = kBefore;
  value.mode = mode;
  value.session = mode == RegisterMode::kPromotable ? 0xdef : kNoSession;
  value.stamp = 0x1122;
  return value;
}

std::string Encoded() {
  return EncodeManualRequest("/shared/haven", "web", {kBefore, After(RegisterMode::kSolo)},
                             absl::FromUnixSeconds(1700000000));
}

TEST(ManualRequestTest, ComesBackFromItsFile) {
  const absl::StatusOr<ManualRequest> request = DecodeManualRequest(Encoded());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->group, "web");
  EXPECT_EQ(request->request.expected, kBefore);
  EXPECT_EQ(request->request.desired, After(RegisterMode::kSolo));
  EXPECT_EQ(request->asked, "2023-11-14T22:13:20+00:00");
  EXPECT_FALSE(request->denied);
}

TEST(ManualRequestTest, ComesBackWithoutAnOldValue) {
  const std::string bytes =
      EncodeManualRequest("/d", "web", {std::nullopt, kBefore}, absl::FromUnixSeconds(0));
  EXPECT_EQ(DecodeManualRequest(bytes)->request.expected, std::nullopt);
  EXPECT_EQ(DecodeManualRequest(bytes)->request.desired, kBefore);
}

TEST(ManualRequestTest, ADenialIsWrittenOverTheWaiting) {
  ASSERT_EQ(kManualWait.size(), kManualDeny.size());
  std::string bytes = Encoded();
  EXPECT_EQ(bytes.substr(ManualAnswerOffset(), kManualWait.size()), kManualWait);
  bytes.replace(ManualAnswerOffset(), kManualDeny.size(), std::string(kManualDeny));
  EXPECT_TRUE(DecodeManualRequest(bytes)->denied);
}

TEST(ManualRequestTest, TellsTheOperatorWhatToType) {
  EXPECT_EQ(ManualRequestFileName("web", 0x1122), "web.0000000000001122.request");
  EXPECT_THAT(
      Encoded(),
      HasSubstr("haven-engine arbiter answer manual:/shared/haven web 0000000000001122 approve\n"));
  EXPECT_THAT(
      Encoded(),
      HasSubstr("haven-engine arbiter answer manual:/shared/haven web 0000000000001122 deny\n"));
}

TEST(ManualRequestTest, TheLongestFits) {
  Register longest = After(RegisterMode::kPromotable);
  longest.owner = std::string(63, 'a');
  longest.term = 4;
  Register taken = longest;
  taken.owner = std::string(63, 'b');
  taken.term = UINT64_MAX;
  taken.stamp = UINT64_MAX;
  const std::string bytes =
      EncodeManualRequest(std::string(1000, 'd'), std::string(63, 'g'), {longest, taken},
                          absl::FromUnixSeconds(253402300799));
  EXPECT_LE(bytes.size(), kManualRequestMaxBytes);
  EXPECT_TRUE(DecodeManualRequest(bytes).ok());
}

TEST(ManualRequestTest, DamageIsNamed) {
  const struct {
    std::string from;
    std::string to;
    std::string error;
  } cases[] = {
      {"haven-request1", "haven-request2", "where a line 'haven-request1 answer=...' belongs"},
      {"answer=wait", "answer=maybe", "the answer 'maybe', neither wait nor deny"},
      {"group=web", "group=../web", "line 'group'"},
      {"group=web\n", "", "where a line 'group=...' belongs"},
      {"expected=haven1", "expected=haven9", "line 'expected'"},
      {"desired=haven1", "desired=absent", "line 'desired'"},
      {"stamp=0000000000001122", "stamp=0000000000000001", "line 'desired'"},
      {"asked=", "when=", "where a line 'asked=...' belongs"},
  };
  for (const auto& [from, to, error] : cases) {
    const std::string bytes = absl::StrReplaceAll(Encoded(), {{from, to}});
    ASSERT_NE(bytes, Encoded());
    const absl::Status status = DecodeManualRequest(bytes).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
  }
  const std::string whole = Encoded();
  for (size_t size = 0; size < whole.find("\n\n"); ++size) {
    EXPECT_FALSE(DecodeManualRequest(whole.substr(0, size)).ok()) << size;
  }
}

TEST(ExplainChangeTest, SaysWhatEachChangeMeans) {
  EXPECT_THAT(ExplainChange("web", {std::nullopt, kBefore}), HasSubstr("create the register"));
  EXPECT_THAT(ExplainChange("web", {kBefore, After(RegisterMode::kSolo)}),
              HasSubstr("run group web alone"));
  EXPECT_THAT(ExplainChange("web", {kBefore, After(RegisterMode::kNone)}),
              HasSubstr("end the protection of group web"));
  EXPECT_THAT(ExplainChange("web", {kBefore, After(RegisterMode::kPromotable)}),
              HasSubstr("the backup of session 0000000000000def may ask to take over"));
  Register taken = After(RegisterMode::kSolo);
  taken.owner = "host-b";
  taken.term = 5;
  taken.running = false;
  const std::string take_over = ExplainChange("web", {kBefore, taken});
  EXPECT_THAT(take_over, HasSubstr("host-b asks to become the owner of group web in place of "
                                   "host-a (term 5 after 4)"));
  EXPECT_THAT(take_over, HasSubstr("that host-a is dead or unreachable"));
  Register ended = After(RegisterMode::kNone);
  taken.mode = RegisterMode::kNone;
  EXPECT_THAT(ExplainChange("web", {ended, taken}),
              HasSubstr("host-b asks for group web, which nobody protects since host-a has ended"));
  taken.mode = RegisterMode::kSolo;
  Register running = taken;
  running.running = true;
  EXPECT_THAT(ExplainChange("web", {taken, running}), HasSubstr("asks to start it"));
}

}  // namespace
}  // namespace haven
