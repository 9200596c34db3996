// SPDX-License-Identifier: Apache-2.0
#include "xen/base/fake_qemu_testing.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

namespace {

using Json = nlohmann::json;

// As QEMU's own.
constexpr int kBacklog = 1;

UniqueFd Listen(const std::string& path) {
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  HAVEN_CHECK_LT(path.size(), sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  HAVEN_CHECK_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
                 0)
      << path << ": " << strerror(errno);
  HAVEN_CHECK_EQ(listen(listener.get(), kBacklog), 0);
  return listener;
}

std::string AnswerTo(const Json& command, absl::string_view member, absl::string_view value) {
  const std::string id =
      command.contains("id") ? absl::StrCat(", \"id\": ", command["id"].dump()) : "";
  return absl::StrCat("{\"", member, "\": ", value, id, "}\r\n");
}

std::string ErrorOf(const Json& command, absl::string_view error, absl::string_view description) {
  return AnswerTo(command, "error",
                  absl::StrCat("{\"class\": \"", error,
                               "\", \"desc\": ", Json(std::string(description)).dump(), "}"));
}

}  // namespace

const char FakeQemu::kGreeting[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
    "\"package\": \"Debian 1:7.2+dfsg-7+deb12u18+b3\"}, \"capabilities\": [\"oob\"]}}\r\n";

FakeQemu::FakeQemu(const std::string& path, std::string greeting,
                   std::map<std::string, Handler> handlers)
    : greeting_(std::move(greeting)), listener_(Listen(path)), handlers_(std::move(handlers)) {
  handlers_.try_emplace("qmp_capabilities",
                        [](const Json& command, int) { return Return(command); });
  handlers_.try_emplace("query-status", [](const Json& command, int) {
    return Return(command, R"({"running": true, "singlestep": false, "status": "running"})");
  });
  thread_ = std::thread([this] { Work(); });
}

FakeQemu::~FakeQemu() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
  }
  HangUp();
  shutdown(listener_.get(), SHUT_RDWR);  // Wakes accept().
  thread_.join();
}

void FakeQemu::On(const std::string& name, Handler handler) {
  const std::lock_guard<std::mutex> lock(mutex_);
  handlers_[name] = std::move(handler);
}

void FakeQemu::Say(absl::string_view lines) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (client_ < 0 || lines.empty()) return;
  const ssize_t sent = send(client_, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  // The client may have gone.
  if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
  HAVEN_CHECK_EQ(sent, static_cast<ssize_t>(lines.size())) << "a test says more than is read";
}

void FakeQemu::HangUp() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (client_ >= 0) shutdown(client_, SHUT_RDWR);
  client_ = -1;
}

bool FakeQemu::connected() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return client_ >= 0;
}

std::vector<std::string> FakeQemu::commands() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return commands_;
}

void FakeQemu::WaitForCommand(absl::string_view name) const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return std::ranges::find(commands_, name) != commands_.end(); });
}

std::string FakeQemu::Return(const Json& command, absl::string_view value) {
  return AnswerTo(command, "return", value);
}

std::string FakeQemu::Error(const Json& command, absl::string_view description) {
  return ErrorOf(command, "GenericError", description);
}

void FakeQemu::Work() {
  while (true) {
    const UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ends_) return;
      HAVEN_CHECK(client.valid()) << strerror(errno);
      client_ = client.get();
    }
    for (const char c : greeting_) Say(absl::string_view(&c, 1));
    Serve(client.get());
    HangUp();
  }
}

void FakeQemu::Serve(int client) {
  std::string unread;
  while (true) {
    std::array<char, 4096> piece;
    iovec place = {piece.data(), piece.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = recvmsg(client, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return;
    if (const cmsghdr* const header = CMSG_FIRSTHDR(&message); header != nullptr) {
      HAVEN_CHECK_EQ(header->cmsg_type, SCM_RIGHTS);
      HAVEN_CHECK_EQ(header->cmsg_len, CMSG_LEN(sizeof(int)));
      std::memcpy(&unclaimed_, CMSG_DATA(header), sizeof(unclaimed_));
      received_.emplace_back(unclaimed_);
    }
    unread.append(piece.data(), static_cast<size_t>(got));
    for (size_t end = 0; (end = unread.find('\n')) != std::string::npos;) {
      if (!connected()) return;
      CarryOut(absl::string_view(unread).substr(0, end));
      unread.erase(0, end + 1);
    }
  }
}

int FakeQemu::TakeFd(const std::string& name) {
  return name == "add-fd" || name == "getfd" ? std::exchange(unclaimed_, -1) : -1;
}

void FakeQemu::CarryOut(absl::string_view line) {
  const Json command = Json::parse(line.begin(), line.end(), nullptr, false);
  HAVEN_CHECK(command.is_object() && command.contains("execute")) << line;
  const std::string name = command["execute"].get<std::string>();
  Handler handler = [&name](const Json& unknown, int) {
    return ErrorOf(unknown, "CommandNotFound",
                   absl::StrCat("The command ", name, " has not been found"));
  };
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = handlers_.find(name); found != handlers_.end()) handler = found->second;
    commands_.push_back(name);
    changed_.notify_all();
  }
  Say(handler(command, TakeFd(name)));
}

}  // namespace haven
