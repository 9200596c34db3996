// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_FAKE_INCOMING_QEMU_TESTING_H_
#define HAVEN_XEN_BACKUP_FAKE_INCOMING_QEMU_TESTING_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/fd.h"
#include "engine/control/wake_fd.h"
#include "xen/backup/held_device_model.h"
#include "xen/base/fake_qemu_testing.h"

namespace haven {

struct FakeIncomingQemuManner {
  std::filesystem::path start_sign = {};  // It starts when there is this file; empty: at once.
  std::string waiting = "inmigrate";      // Its run state before it has loaded,
  std::string loaded = "running";         // and after.
  std::string refused = {};               // A command that it answers with an error.
  bool reads = true;
  size_t dies_after = SIZE_MAX;  // Bytes of the state that it reads.
};

// Plays a copy's QEMU: it opens the state file as the toolstack has it do, serves the machine
// protocol (FakeQemu), and loads what comes. Lives from construction until End() or destruction,
// unless it dies of its state.
class FakeIncomingQemu {
 public:
  FakeIncomingQemu(DeviceModelFiles files, FakeIncomingQemuManner manner);
  ~FakeIncomingQemu() { End(); }
  FakeIncomingQemu(const FakeIncomingQemu&) = delete;
  FakeIncomingQemu& operator=(const FakeIncomingQemu&) = delete;

  // When it returns, QEMU has died.
  void End();

  // Whether somebody has its socket.
  bool connected() const;

  // What it has read of its state.
  std::vector<std::byte> state() const;

  // What its parameters of migration were set to, in JSON: one for each time.
  std::vector<std::string> parameters() const;

 private:
  std::map<std::string, FakeQemu::Handler> Handlers();
  void Work();
  bool Await(int fd) const;
  bool AwaitStartSign() const;
  bool Load(UniqueFd& pipe);

  const DeviceModelFiles files_;
  const FakeIncomingQemuManner manner_;
  const WakeFd ends_;

  mutable std::mutex mutex_;
  bool loaded_ = false;
  std::vector<std::byte> state_;
  std::vector<std::string> parameters_;
  std::unique_ptr<FakeQemu> qmp_;  // While it lives. Set by the thread alone.
  std::thread thread_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_FAKE_INCOMING_QEMU_TESTING_H_
