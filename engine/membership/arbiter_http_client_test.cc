// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_http_client.h"

#include <stdlib.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/membership/arbiter_http_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(30);

TEST(HttpClientTest, PostsAndReturnsTheAnswer) {
  TestHttpServer::Request seen;
  TestHttpServer server([&seen](const TestHttpServer::Request& request) {
    seen = request;
    return TestHttpServer::Response(200, "pong");
  });
  HttpClient client({});
  const absl::StatusOr<HttpReply> reply = client.PostJson(
      absl::StrCat("http://", server.endpoint(), "/v3/kv/range"), R"({"key":"ping"})", kTimeout);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->code, 200);
  EXPECT_EQ(reply->body, "pong");
  EXPECT_EQ(seen.path, "/v3/kv/range");
  EXPECT_EQ(seen.body, R"({"key":"ping"})");
}

TEST(HttpClientTest, ErrorsAndRedirectionsAreAnswersNotFollowed) {
  int requests = 0;
  TestHttpServer server([&requests](const TestHttpServer::Request&) {
    ++requests;
    return requests == 1 ? TestHttpServer::Response(503, "later")
                         : std::string(
                               "HTTP/1.1 307 X\r\nLocation: /elsewhere\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n");
  });
  HttpClient client({});
  const std::string url = absl::StrCat("http://", server.endpoint(), "/");
  EXPECT_EQ(client.PostJson(url, "{}", kTimeout)->code, 503);
  EXPECT_EQ(client.PostJson(url, "{}", kTimeout)->code, 307);
  EXPECT_EQ(requests, 2);
}

TEST(HttpClientTest, AHangUpIsAnError) {
  TestHttpServer server([](const TestHttpServer::Request&) { return std::nullopt; });
  HttpClient client({});
  const std::string url = absl::StrCat("http://", server.endpoint(), "/");
  const absl::Status status = client.PostJson(url, "{}", kTimeout).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(url));
}

TEST(HttpClientTest, ATruncatedAnswerIsAnError) {
  TestHttpServer server([](const TestHttpServer::Request&) {
    return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
  });
  HttpClient client({});
  EXPECT_TRUE(absl::IsUnavailable(
      client.PostJson(absl::StrCat("http://", server.endpoint(), "/"), "{}", kTimeout).status()));
}

TEST(HttpClientTest, ABodyWithoutEndIsCut) {
  TestHttpServer server([](const TestHttpServer::Request&) {
    return TestHttpServer::Response(200, std::string(HttpClient::kBodyBytes + 1, 'x'));
  });
  HttpClient client({});
  EXPECT_TRUE(absl::IsResourceExhausted(
      client.PostJson(absl::StrCat("http://", server.endpoint(), "/"), "{}", kTimeout).status()));
}

TEST(HttpClientTest, NobodyThereIsAnErrorAtOnce) {
  uint16_t port = 0;
  ListenOnLoopback(port).reset();
  HttpClient client({});
  const absl::Time start = absl::Now();
  EXPECT_TRUE(absl::IsUnavailable(
      client.PostJson(absl::StrCat("http://127.0.0.1:", port, "/"), "{}", kTimeout).status()));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(HttpClientTest, AServerThatHangsIsLeftInTime) {
  uint16_t port = 0;
  // Connections come about in its backlog, and nobody ever accepts them.
  const UniqueFd listener = ListenOnLoopback(port);
  HttpClient client({});
  for (const absl::Duration timeout : {absl::ZeroDuration(), absl::Milliseconds(200)}) {
    const absl::Time start = absl::Now();
    const absl::Status status =
        client.PostJson(absl::StrCat("http://127.0.0.1:", port, "/"), "{}", timeout).status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_GE(absl::Now() - start, timeout);
    EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  }
}

TEST(HttpClientTest, ProxiesOfTheEnvironmentAreIgnored) {
  uint16_t port = 0;
  ListenOnLoopback(port).reset();
  ASSERT_EQ(setenv("http_proxy", absl::StrCat("http://127.0.0.1:", port).c_str(), 1), 0);
  ASSERT_EQ(setenv("ALL_PROXY", absl::StrCat("http://127.0.0.1:", port).c_str(), 1), 0);
  TestHttpServer server(
      [](const TestHttpServer::Request&) { return TestHttpServer::Response(200, ""); });
  HttpClient client({});
  const absl::Status status =
      client.PostJson(absl::StrCat("http://", server.endpoint(), "/"), "{}", kTimeout).status();
  unsetenv("http_proxy");
  unsetenv("ALL_PROXY");
  EXPECT_TRUE(status.ok()) << status;
}

TEST(HttpClientTest, OtherProtocolsAreRefused) {
  HttpClient client({});
  EXPECT_FALSE(client.PostJson("file:///etc/hostname", "{}", kTimeout).ok());
  EXPECT_FALSE(client.PostJson("not a url", "{}", kTimeout).ok());
}

TEST(HttpClientTest, MissingCertificateFilesAreNamed) {
  TestHttpServer server([](const TestHttpServer::Request&) { return std::nullopt; });
  HttpClient client({"/no/such/ca.pem", "", ""});
  const absl::Status status =
      client.PostJson(absl::StrCat("https://", server.endpoint(), "/"), "{}", kTimeout).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/ca.pem"));
}

TEST(HttpClientTest, ThreadsMayCallAtOnce) {
  TestHttpServer server([](const TestHttpServer::Request& request) {
    return TestHttpServer::Response(200, request.body);
  });
  HttpClient client({});
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        const std::string body = absl::StrCat(i, ":", round);
        const absl::StatusOr<HttpReply> reply =
            client.PostJson(absl::StrCat("http://", server.endpoint(), "/"), body, kTimeout);
        EXPECT_TRUE(reply.ok()) << reply.status();
        if (reply.ok()) {
          EXPECT_EQ(reply->body, body);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace haven
