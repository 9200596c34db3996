// SPDX-License-Identifier: Apache-2.0
//
// An HTTP server for tests, that misbehaves as it is told.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_TESTING_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_TESTING_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "gtest/gtest.h"

namespace haven {

// A TCP socket listening on a free port of the loopback address.
inline UniqueFd ListenOnLoopback(uint16_t& port) {
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  HAVEN_CHECK(bind(listener.get(), generic, size) == 0 && listen(listener.get(), 16) == 0 &&
              getsockname(listener.get(), generic, &size) == 0);
  port = ntohs(address.sin_port);
  return listener;
}

// Serves one connection after the other, one request on each.
class TestHttpServer {
 public:
  struct Request {
    std::string path;
    std::string body;
  };
  // Returns the raw response; nullopt: hang up without one.
  using Handler = std::function<std::optional<std::string>(const Request&)>;

  explicit TestHttpServer(Handler handler)
      : handler_(std::move(handler)),
        listener_(ListenOnLoopback(port_)),
        thread_([this] { Serve(); }) {}
  ~TestHttpServer() {
    stop_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::string endpoint() const { return absl::StrCat("127.0.0.1:", port_); }

  static std::string Response(int code, const std::string& body) {
    return absl::StrCat("HTTP/1.1 ", code, " X\r\nContent-Length: ", body.size(),
                        "\r\nConnection: close\r\n\r\n", body);
  }

 private:
  void Serve() {
    while (!stop_) {
      const UniqueFd peer(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) continue;
      const std::optional<std::string> response = handler_(Receive(peer.get()));
      if (response) send(peer.get(), response->data(), response->size(), MSG_NOSIGNAL);
    }
  }

  static Request Receive(int peer) {
    std::string text;
    char piece[4096];
    size_t body_at = std::string::npos;
    size_t body_bytes = 0;
    while (body_at == std::string::npos || text.size() < body_at + body_bytes) {
      const ssize_t got = recv(peer, piece, sizeof(piece), 0);
      if (got <= 0) return {};
      text.append(piece, static_cast<size_t>(got));
      if (body_at != std::string::npos) continue;
      const size_t end = text.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      body_at = end + 4;
      constexpr absl::string_view kLength = "Content-Length: ";
      const size_t length = text.find(std::string(kLength));
      HAVEN_CHECK(length != std::string::npos && length < end);
      const size_t from = length + kLength.size();
      HAVEN_CHECK(absl::SimpleAtoi(text.substr(from, text.find('\r', from) - from), &body_bytes));
    }
    const size_t path = text.find(' ') + 1;
    return {text.substr(path, text.find(' ', path) - path), text.substr(body_at)};
  }

  const Handler handler_;
  uint16_t port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_HTTP_TESTING_H_
