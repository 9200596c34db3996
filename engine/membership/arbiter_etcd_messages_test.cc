// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_etcd_messages.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr char kGroup[] = "web";
// base64 of "/haven/web".
constexpr char kKey64[] = "L2hhdmVuL3dlYg==";

const Register kOld{3, "host-a", RegisterMode::kNone, kNoSession, true, 1};
const Register kNew{3, "host-a", RegisterMode::kSolo, kNoSession, true, 2};

std::string Base64(const std::string& text) { return absl::Base64Escape(text); }

// Responses as etcd 3.4 sends them.
std::string RangeResponse(const std::string& value) {
  return absl::StrCat(
      R"({"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437",)",
      R"("revision":"2","raft_term":"2"},"kvs":[{"key":")", kKey64,
      R"(","create_revision":"2","mod_revision":"2","version":"1","value":")", Base64(value),
      R"("}],"count":"1"})");
}
constexpr char kAbsentResponse[] =
    R"({"header":{"cluster_id":"14841639068965178418","revision":"1","raft_term":"2"}})";
constexpr char kPutResponse[] = R"({"header":{"cluster_id":"1","revision":"3"},"succeeded":true,)"
                                R"("responses":[{"response_put":{"header":{"revision":"3"}}}]})";
std::string RefusedResponse(const std::string& value) {
  return absl::StrCat(R"({"header":{"cluster_id":"1"},"responses":[{"response_range":)",
                      R"({"header":{"revision":"3"},"kvs":[{"key":")", kKey64, R"(","value":")",
                      Base64(value), R"("}],"count":"1"}}]})");
}

TEST(EtcdMessagesTest, ReadsOneKey) {
  EXPECT_EQ(EtcdKey(kGroup), "/haven/web");
  EXPECT_EQ(Json::parse(EncodeEtcdRange(kGroup)), Json({{"key", kKey64}}));
}

TEST(EtcdMessagesTest, AChangeComparesTheWholeText) {
  const Json sent = Json::parse(EncodeEtcdChange(kGroup, {kOld, kNew}));
  EXPECT_EQ(sent, Json::parse(absl::StrCat(
                      R"({"compare":[{"key":")", kKey64,
                      R"(","result":"EQUAL","target":"VALUE","value":")",
                      Base64(FormatRegister(kOld)), R"("}],"success":[{"request_put":{"key":")",
                      kKey64, R"(","value":")", Base64(FormatRegister(kNew)),
                      R"("}}],"failure":[{"request_range":{"key":")", kKey64, R"("}}]})")));
}

TEST(EtcdMessagesTest, ACreationComparesTheVersion) {
  const Json sent = Json::parse(EncodeEtcdChange(kGroup, {std::nullopt, kNew}));
  EXPECT_EQ(sent["compare"],
            Json::parse(absl::StrCat(R"([{"key":")", kKey64,
                                     R"(","result":"EQUAL","target":"VERSION","version":"0"}])")));
}

TEST(EtcdMessagesTest, UnderstandsReads) {
  EXPECT_EQ(DecodeEtcdRange(kGroup, RangeResponse(FormatRegister(kOld))).value(), kOld);
  EXPECT_EQ(DecodeEtcdRange(kGroup, kAbsentResponse).value(), std::nullopt);
  EXPECT_EQ(DecodeEtcdRange(kGroup, R"({"header":{"cluster_id":"1"},"kvs":[]})").value(),
            std::nullopt);
}

TEST(EtcdMessagesTest, UnderstandsChanges) {
  EXPECT_TRUE(DecodeEtcdChange(kGroup, kPutResponse)->succeeded);
  const absl::StatusOr<EtcdChangeResult> refused =
      DecodeEtcdChange(kGroup, RefusedResponse(FormatRegister(kOld)));
  ASSERT_TRUE(refused.ok()) << refused.status();
  EXPECT_FALSE(refused->succeeded);
  EXPECT_EQ(refused->current, kOld);
  const absl::StatusOr<EtcdChangeResult> absent = DecodeEtcdChange(
      kGroup,
      R"({"header":{"cluster_id":"1"},"succeeded":false,"responses":[{"response_range":{}}]})");
  ASSERT_TRUE(absent.ok()) << absent.status();
  EXPECT_FALSE(absent->succeeded);
  EXPECT_EQ(absent->current, std::nullopt);
}

TEST(EtcdMessagesTest, NothingElseIsTakenForAnAnswer) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "is not JSON"},
      {"<html>it works</html>", "is not JSON"},
      {"null", "has no header"},
      {"[]", "has no header"},
      {"7", "has no header"},
      {"{}", "has no header"},
      {R"({"header":7})", "has no header"},
      {R"({"header":{"revision":"1"}})", "has no header"},
      {R"({"header":{"cluster_id":1}})", "has no header"},
      {std::string(10000, '['), "is not JSON"},
      {R"({"header":{"cluster_id":"1"},"succeeded":"true"})", "no boolean"},
      {R"({"header":{"cluster_id":"1"}})", "exactly one operation"},
      {R"({"header":{"cluster_id":"1"},"succeeded":true})", "exactly one operation"},
      {R"({"header":{"cluster_id":"1"},"succeeded":true,"responses":[]})", "exactly one operation"},
      {R"({"header":{"cluster_id":"1"},"succeeded":true,"responses":{"response_put":{}}})",
       "exactly one operation"},
      {R"({"header":{"cluster_id":"1"},"succeeded":true,"responses":[{"response_range":{}}]})",
       "another operation"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_put":{}}]})", "another operation"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":7}]})", "another operation"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":{"kvs":7}}]})", "one key"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":{"kvs":[{},{}]}}]})",
       "one key"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":{"kvs":[7]}}]})",
       "another key"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":{"kvs":[{"key":"!"}]}}]})",
       "not base64"},
      {R"({"header":{"cluster_id":"1"},"responses":[{"response_range":{"kvs":[{"key":7}]}}]})",
       "not base64"},
  };
  for (const auto& [body, error] : cases) {
    const absl::Status status = DecodeEtcdChange(kGroup, body).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << body << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error)) << body;
    EXPECT_LT(status.message().size(), 1000u);
  }
}

TEST(EtcdMessagesTest, AnotherKeyIsNoAnswer) {
  const std::string body = RangeResponse(FormatRegister(kOld));
  EXPECT_TRUE(absl::IsDataLoss(DecodeEtcdRange("web2", body).status()));
}

TEST(EtcdMessagesTest, ADamagedRegisterIsNamed) {
  for (const std::string& text :
       {std::string(), std::string("solo"), FormatRegister(kOld) + "\n",
        absl::StrReplaceAll(FormatRegister(kOld), {{"solo", "none"}}) + "x"}) {
    for (const absl::Status& status : {DecodeEtcdRange(kGroup, RangeResponse(text)).status(),
                                       DecodeEtcdChange(kGroup, RefusedResponse(text)).status()}) {
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("key /haven/web holds no register"));
    }
  }
}

TEST(EtcdMessagesTest, EveryPrefixOfAnAnswerIsRefused) {
  const std::string body = RefusedResponse(FormatRegister(kOld));
  for (size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeEtcdChange(kGroup, body.substr(0, size)).ok()) << size;
  }
}

TEST(EtcdMessagesTest, ErrorsAreShownAsEtcdWordsThem) {
  EXPECT_EQ(EtcdErrorText(R"({"error":"etcdserver: no leader","message":"no leader","code":14})"),
            "no leader");
  EXPECT_EQ(EtcdErrorText(R"({"error":"unavailable"})"), "unavailable");
  EXPECT_EQ(EtcdErrorText("404 page not found\n"), "404 page not found\\n");
  EXPECT_LE(EtcdErrorText(std::string(100000, 'x')).size(), 200u);
}

}  // namespace
}  // namespace haven
