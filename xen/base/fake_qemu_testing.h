// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_FAKE_QEMU_TESTING_H_
#define HAVEN_XEN_BASE_FAKE_QEMU_TESTING_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/fd.h"
#include "nlohmann/json.hpp"

namespace haven {

// Plays QEMU on the machine protocol's socket: one client at a time, the next one waits in a short
// queue; commands one after the other. It greets byte by byte. A command that it has no handler for
// is refused as QEMU refuses one it does not know; qmp_capabilities and query-status (it runs) have
// one from the start. Members may be called by any thread, handlers included.
class FakeQemu {
 public:
  // What a Debian 12 host says.
  static const char kGreeting[];

  // Lines to send: events, answers, both or none. `received_fd`: for add-fd and getfd, the
  // descriptor that came with it, which stays open as long as the fake; else -1. Called on the
  // fake's thread.
  using Handler = std::function<std::string(const nlohmann::json& command, int received_fd)>;

  // Listens at `path` from now on, which is shorter than Bazel's folder of a test: in /tmp. With
  // `handlers` from the start, for a client that may be there before On() is called.
  explicit FakeQemu(const std::string& path, std::string greeting = kGreeting,
                    std::map<std::string, Handler> handlers = {});
  // No handler may wait for anything by then.
  ~FakeQemu();
  FakeQemu(const FakeQemu&) = delete;
  FakeQemu& operator=(const FakeQemu&) = delete;

  // For this command from now on.
  void On(const std::string& name, Handler handler);
  // Sends something unasked; to nobody if nobody is there. No more than a socket holds.
  void Say(absl::string_view lines);
  // Leaves the present client, and the commands it has sent that were not carried out; then serves
  // the next.
  void HangUp();

  // Whether it serves somebody.
  bool connected() const;

  // The names received so far, each before its handler is called.
  std::vector<std::string> commands() const;
  // Until this one is among them.
  void WaitForCommand(absl::string_view name) const;

  // The line that answers a command; `value` is JSON.
  static std::string Return(const nlohmann::json& command, absl::string_view value = "{}");
  static std::string Error(const nlohmann::json& command, absl::string_view description);

 private:
  void Work();
  void Serve(int client);
  void CarryOut(absl::string_view line);
  int TakeFd(const std::string& name);

  const std::string greeting_;
  UniqueFd listener_;
  std::vector<UniqueFd> received_;  // By the thread alone.
  int unclaimed_ = -1;              // Of those, the one that belongs to the next command for one.

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::map<std::string, Handler> handlers_;
  std::vector<std::string> commands_;
  int client_ = -1;  // Served.
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_FAKE_QEMU_TESTING_H_
