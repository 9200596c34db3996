// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/etcd_arbiter.h"

#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_child.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_etcd_testing.h"
#include "engine/membership/arbiter_http_client.h"
#include "engine/membership/arbiter_http_testing.h"
#include "engine/membership/arbiter_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr char kGroup[] = "web";
constexpr absl::Duration kTimeout = absl::Seconds(30);

EtcdArbiter ArbiterOf(std::vector<std::string> endpoints, HttpTlsFiles tls = {}) {
  return EtcdArbiter({std::move(endpoints), std::move(tls)});
}

class EtcdArbiterTest : public testing::Test {
 protected:
  TestDirectory directory_;
  TestEtcd etcd_{directory_.path()};
  EtcdArbiter arbiter_ = ArbiterOf({etcd_.endpoint()});
  HttpClient http_{{}};
  const RegisterRequest create_{std::nullopt, FirstValue()};
  const RegisterRequest change_{create_.desired, NextValue(create_.desired)};
};

TEST_F(EtcdArbiterTest, Conforms) {
  ExpectConformance(ConformanceTargetOf(absl::StrCat("etcd:", etcd_.endpoint())));
}

TEST_F(EtcdArbiterTest, KeepsTheTextUnderItsKey) {
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kGranted);
  const absl::StatusOr<HttpReply> reply = http_.PostJson(
      etcd_.url() + "/v3/kv/range",
      absl::StrCat(R"({"key":")", absl::Base64Escape("/haven/web"), R"("})"), kTimeout);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_THAT(reply->body, HasSubstr(absl::Base64Escape(FormatRegister(create_.desired))));
}

TEST_F(EtcdArbiterTest, AGrantSurvivesKillingTheServer) {
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kGranted);
  etcd_.Restart();
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, create_.desired);
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, change_, kTimeout).verdict, Verdict::kGranted);
  etcd_.Restart();
  EXPECT_EQ(arbiter_.CompareAndSet(kGroup, change_, kTimeout).verdict, Verdict::kGranted);
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, change_.desired);
}

TEST_F(EtcdArbiterTest, AStoppedServerMakesItUnknownInTimeAndARepetitionResolvesIt) {
  ASSERT_EQ(arbiter_.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kGranted);
  etcd_.Pause();
  const absl::Time start = absl::Now();
  RegisterAnswer answer = arbiter_.CompareAndSet(kGroup, change_, absl::Milliseconds(300));
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_TRUE(absl::IsDeadlineExceeded(answer.cause)) << answer.cause;
  EXPECT_THAT(std::string(answer.cause.message()), HasSubstr("group web"));
  EXPECT_THAT(std::string(answer.cause.message()), HasSubstr(etcd_.endpoint()));
  answer = arbiter_.Read(kGroup, absl::Milliseconds(300));
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  // The change waits in the server's socket and is carried out now, before or after its repetition.
  etcd_.Resume();
  answer = arbiter_.CompareAndSet(kGroup, change_, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, change_.desired);
}

TEST_F(EtcdArbiterTest, ALostAnswerIsResolvedByRepeating) {
  // Lets every change reach etcd and hangs up instead of handing the answer on.
  TestHttpServer loses_answers([&](const TestHttpServer::Request& request) {
    const absl::StatusOr<HttpReply> reply =
        http_.PostJson(etcd_.url() + request.path, request.body, kTimeout);
    EXPECT_TRUE(reply.ok() && reply->code == 200) << reply.status();
    return std::nullopt;
  });
  EtcdArbiter through = ArbiterOf({loses_answers.endpoint()});
  EXPECT_EQ(through.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kUnknown);
  EXPECT_EQ(arbiter_.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kGranted);
  // The next endpoint is such a repetition within one call.
  EtcdArbiter both = ArbiterOf({loses_answers.endpoint(), etcd_.endpoint()});
  const RegisterAnswer answer = both.CompareAndSet(kGroup, change_, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
  EXPECT_EQ(arbiter_.Read(kGroup, kTimeout).current, change_.desired);
}

TEST_F(EtcdArbiterTest, TheNextEndpointIsTriedAndRemembered) {
  uint16_t dead_port = 0;
  ListenOnLoopback(dead_port).reset();
  uint16_t hung_port = 0;
  const UniqueFd hung = ListenOnLoopback(hung_port);
  EtcdArbiter arbiter = ArbiterOf({absl::StrCat("127.0.0.1:", dead_port),
                                   absl::StrCat("127.0.0.1:", hung_port), etcd_.endpoint()});
  const RegisterAnswer answer = arbiter.CompareAndSet(kGroup, create_, absl::Seconds(3));
  EXPECT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
  // From now on the hanging one costs nothing: its share alone would be longer than this.
  const absl::Time start = absl::Now();
  EXPECT_EQ(arbiter.Read(kGroup, absl::Minutes(10)).current, create_.desired);
  EXPECT_LT(absl::Now() - start, absl::Minutes(1));
}

TEST_F(EtcdArbiterTest, EveryEndpointIsNamedWhenNoneAnswers) {
  uint16_t dead_port = 0;
  ListenOnLoopback(dead_port).reset();
  TestHttpServer sick([](const TestHttpServer::Request&) {
    return TestHttpServer::Response(503, R"({"error":"etcdserver: no leader","code":14})");
  });
  const std::string dead = absl::StrCat("127.0.0.1:", dead_port);
  const RegisterAnswer answer = ArbiterOf({dead, sick.endpoint()}).Read(kGroup, kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  const std::string cause(answer.cause.message());
  EXPECT_THAT(cause, HasSubstr(dead));
  EXPECT_THAT(cause, HasSubstr(sick.endpoint()));
  EXPECT_THAT(cause, HasSubstr("HTTP 503: etcdserver: no leader"));
}

TEST_F(EtcdArbiterTest, WhateverIsNotEtcdIsUnknown) {
  for (const std::string& body :
       {std::string(), std::string("{}"), std::string("<html>"), std::string(100000, 'x')}) {
    TestHttpServer other(
        [&body](const TestHttpServer::Request&) { return TestHttpServer::Response(200, body); });
    EtcdArbiter arbiter = ArbiterOf({other.endpoint()});
    EXPECT_EQ(arbiter.Read(kGroup, kTimeout).verdict, Verdict::kUnknown);
    EXPECT_EQ(arbiter.CompareAndSet(kGroup, create_, kTimeout).verdict, Verdict::kUnknown);
  }
}

TEST_F(EtcdArbiterTest, ADamagedRegisterIsUnknownAndNotTouched) {
  const std::string key = absl::Base64Escape("/haven/web");
  const std::string damaged = absl::Base64Escape("who wrote this?");
  ASSERT_TRUE(http_
                  .PostJson(etcd_.url() + "/v3/kv/put",
                            absl::StrCat(R"({"key":")", key, R"(","value":")", damaged, R"("})"),
                            kTimeout)
                  .ok());
  for (const RegisterAnswer& answer :
       {arbiter_.Read(kGroup, kTimeout), arbiter_.CompareAndSet(kGroup, create_, kTimeout),
        arbiter_.CompareAndSet(kGroup, change_, kTimeout)}) {
    EXPECT_EQ(answer.verdict, Verdict::kUnknown);
    EXPECT_TRUE(absl::IsDataLoss(answer.cause)) << answer.cause;
    EXPECT_THAT(std::string(answer.cause.message()), HasSubstr("will not be overwritten"));
  }
  EXPECT_THAT(http_
                  .PostJson(etcd_.url() + "/v3/kv/range", absl::StrCat(R"({"key":")", key, R"("})"),
                            kTimeout)
                  ->body,
              HasSubstr(damaged));
}

TEST(EtcdClusterTest, LosesAMemberButNotItsMajority) {
  TestDirectory directory;
  TestEtcd etcd(directory.path(), 3);
  EtcdArbiter arbiter = ArbiterOf({etcd.endpoint(0), etcd.endpoint(1), etcd.endpoint(2)});
  Register value = FirstValue();
  ASSERT_EQ(arbiter.CompareAndSet(kGroup, {std::nullopt, value}, kTimeout).verdict,
            Verdict::kGranted);
  const auto change = [&](absl::Duration timeout) {
    const RegisterRequest request{value, NextValue(value)};
    RegisterAnswer answer = arbiter.CompareAndSet(kGroup, request, timeout);
    // While the others elect a new leader there may be no answer; the request is repeated then.
    for (int i = 0; i < 20 && answer.verdict == Verdict::kUnknown && timeout == kTimeout; ++i) {
      answer = arbiter.CompareAndSet(kGroup, request, timeout);
    }
    if (answer.verdict == Verdict::kGranted) value = request.desired;
    return answer;
  };
  etcd.Kill(0);
  RegisterAnswer answer = change(kTimeout);
  EXPECT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
  etcd.Kill(1);
  const Register known = value;
  answer = change(absl::Seconds(1));
  EXPECT_EQ(answer.verdict, Verdict::kUnknown);
  EXPECT_EQ(arbiter.Read(kGroup, absl::Seconds(1)).verdict, Verdict::kUnknown);
  etcd.Restart(1);
  answer = arbiter.Read(kGroup, kTimeout);
  ASSERT_EQ(answer.verdict, Verdict::kGranted) << answer.cause;
  // The unknown change has happened or not; what was granted is not lost.
  ASSERT_TRUE(answer.current.has_value());
  EXPECT_EQ(answer.current->term, known.term);
  value = *answer.current;
  EXPECT_EQ(change(kTimeout).verdict, Verdict::kGranted);
}

class EtcdTlsTest : public testing::Test {
 protected:
  EtcdTlsTest() {
    // One authority, a server and a client certificate of it, and an authority nobody trusts.
    Run("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out "
        "ca.pem");
    Run("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -keyout x.key -out x.pem");
    for (const std::string name : {"server", "client"}) {
      const std::string make =
          "openssl req -newkey rsa:2048 -nodes -subj /CN=NAME -keyout NAME.key -out NAME.csr && "
          "echo subjectAltName=IP:127.0.0.1 > NAME.ext && "
          "openssl x509 -req -in NAME.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
          "-extfile NAME.ext -out NAME.pem";
      Run(absl::StrReplaceAll(make, {{"NAME", name}}));
    }
  }

  void Run(const std::string& command) {
    ChildRunner runner;
    const absl::StatusOr<ChildResult> result =
        runner.Run({"/bin/sh", "-c", absl::StrCat("cd ", directory_.path(), " && ", command)}, "",
                   Deadline(kTimeout));
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->end == ChildResult::End::kExited && result->code == 0)
        << command << ": " << result->diagnostics;
  }
  std::string PathOf(absl::string_view name) { return absl::StrCat(directory_.path(), "/", name); }

  TestDirectory directory_;
};

TEST_F(EtcdTlsTest, TalksOnlyToWhomItTrustsAndWithItsOwnCertificate) {
  const HttpTlsFiles good = {PathOf("ca.pem"), PathOf("client.pem"), PathOf("client.key")};
  const EtcdTlsFiles files = {good.ca, PathOf("server.pem"), PathOf("server.key"), good};
  TestEtcd etcd(directory_.path(), 1, &files);
  const RegisterRequest create{std::nullopt, FirstValue()};
  const RegisterAnswer granted = MakeArbiter(absl::StrCat("etcd:", etcd.endpoint(), ",ca=", good.ca,
                                                          ",cert=", good.cert, ",key=", good.key))
                                     .value()
                                     ->CompareAndSet(kGroup, create, kTimeout);
  EXPECT_EQ(granted.verdict, Verdict::kGranted) << granted.cause;
  const HttpTlsFiles wrong[] = {
      {PathOf("x.pem"), good.cert, good.key},       // Does not trust the server.
      {"", good.cert, good.key},                    // Trusts the system's authorities only.
      {good.ca, "", ""},                            // Shows no certificate.
      {good.ca, PathOf("x.pem"), PathOf("x.key")},  // Shows one the server does not trust.
      {},                                           // Speaks plain HTTP.
  };
  for (const HttpTlsFiles& tls : wrong) {
    const RegisterAnswer answer = ArbiterOf({etcd.endpoint()}, tls).Read(kGroup, kTimeout);
    EXPECT_EQ(answer.verdict, Verdict::kUnknown) << tls.ca << " " << tls.cert;
    EXPECT_THAT(std::string(answer.cause.message()), HasSubstr(etcd.endpoint()));
  }
  EXPECT_EQ(ArbiterOf({etcd.endpoint()}, good).Read(kGroup, kTimeout).current, create.desired);
}

}  // namespace
}  // namespace haven
