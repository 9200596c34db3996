// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/fake_incoming_qemu_testing.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "engine/base/check.h"
#include "nlohmann/json.hpp"

namespace haven {

namespace {

using Json = nlohmann::json;

}  // namespace

FakeIncomingQemu::FakeIncomingQemu(DeviceModelFiles files, FakeIncomingQemuManner manner)
    : files_(std::move(files)),
      manner_(std::move(manner)),
      ends_(*WakeFd::Create()),
      thread_([this] { Work(); }) {}

void FakeIncomingQemu::End() {
  ends_.Signal();
  if (thread_.joinable()) thread_.join();
}

bool FakeIncomingQemu::connected() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return qmp_ != nullptr && qmp_->connected();
}

std::vector<std::byte> FakeIncomingQemu::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return state_;
}

std::vector<std::string> FakeIncomingQemu::parameters() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return parameters_;
}

std::map<std::string, FakeQemu::Handler> FakeIncomingQemu::Handlers() {
  std::map<std::string, FakeQemu::Handler> handlers;
  handlers["query-status"] = [this](const Json& command, int) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::string& status = loaded_ ? manner_.loaded : manner_.waiting;
    const Json answer = {
        {"running", status == "running"}, {"singlestep", false}, {"status", status}};
    return FakeQemu::Return(command, answer.dump());
  };
  handlers["migrate-set-parameters"] = [this](const Json& command, int) {
    const std::lock_guard<std::mutex> lock(mutex_);
    parameters_.push_back(command.at("arguments").dump());
    return FakeQemu::Return(command);
  };
  if (!manner_.refused.empty()) {
    handlers[manner_.refused] = [](const Json& command, int) {
      return FakeQemu::Error(command, "this QEMU does not do that");
    };
  }
  return handlers;
}

void FakeIncomingQemu::Work() {
  if (!AwaitStartSign()) return;
  UniqueFd pipe(open(files_.state_file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  HAVEN_CHECK(pipe.valid()) << files_.state_file << ": " << strerror(errno);
  auto qmp = std::make_unique<FakeQemu>(files_.qmp_socket, FakeQemu::kGreeting, Handlers());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    qmp_ = std::move(qmp);
  }
  if (Load(pipe)) Await(-1);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    qmp = std::move(qmp_);
  }
  // Before the pipe: whoever finds that without a reader finds nobody at the socket either. Its
  // handlers take the lock.
  qmp.reset();
}

// Until there is something at `fd`, if it is one. False: it is ended first.
bool FakeIncomingQemu::Await(int fd) const {
  std::array<pollfd, 2> fds = {{{fd, POLLIN, 0}, {ends_.fd(), POLLIN, 0}}};
  while (poll(fds.data(), fds.size(), -1) < 0) HAVEN_CHECK_EQ(errno, EINTR);
  return fds[1].revents == 0;
}

bool FakeIncomingQemu::AwaitStartSign() const {
  if (manner_.start_sign.empty()) return true;
  const UniqueFd made(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string folder = manner_.start_sign.parent_path();
  HAVEN_CHECK_GE(inotify_add_watch(made.get(), folder.c_str(), IN_CREATE), 0) << strerror(errno);
  while (!std::filesystem::exists(manner_.start_sign)) {
    if (!Await(made.get())) return false;
    // Which file it was is seen without them.
    alignas(inotify_event) std::array<char, 4096> events;
    HAVEN_CHECK_GT(read(made.get(), events.data(), events.size()), 0) << strerror(errno);
  }
  return true;
}

// False: it dies of its state, or is ended first.
bool FakeIncomingQemu::Load(UniqueFd& pipe) {
  if (!manner_.reads) return true;
  while (Await(pipe.get())) {
    std::array<std::byte, 4096> bytes;
    const ssize_t got = read(pipe.get(), bytes.data(), bytes.size());
    HAVEN_CHECK_GE(got, 0) << strerror(errno);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      state_.insert(state_.end(), bytes.begin(), bytes.begin() + got);
      // The end of a writer that has written nothing is no end of a state, and none is to come.
      if (got == 0 && state_.empty()) return true;
      if (state_.size() >= manner_.dies_after) {
        std::ofstream(files_.log) << "qemu: xen_ram_alloc\nload of migration failed\n";
        return false;
      }
      if (got > 0) continue;
      loaded_ = true;
    }
    pipe.reset();
    qmp_->Say("{\"timestamp\": {\"seconds\": 1}, \"event\": \"RESUME\"}\r\n");
    return true;
  }
  return false;
}

}  // namespace haven
