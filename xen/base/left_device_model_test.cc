// SPDX-License-Identifier: Apache-2.0
#include "xen/base/left_device_model.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

// Overwrites what the kernel shows as this process's command line, which is longer.
void SetCommandLine(absl::string_view words) {
  std::ifstream stat("/proc/self/stat");
  std::string field;
  char* bounds[2] = {};
  for (int i = 1; i <= 49 && stat >> field; ++i) {
    uintptr_t address = 0;
    if (i < 48) continue;
    HAVEN_CHECK(absl::SimpleAtoi(field, &address)) << field;
    bounds[i - 48] = reinterpret_cast<char*>(address);
  }
  const size_t room = static_cast<size_t>(bounds[1] - bounds[0]);
  HAVEN_CHECK_LE(words.size(), room);
  std::memset(bounds[0], 0, room);
  std::memcpy(bounds[0], words.data(), words.size());
}

// A process that waits to be killed.
class Process {
 public:
  explicit Process(absl::string_view words) {
    int ready[2];
    HAVEN_CHECK_EQ(pipe(ready), 0);
    pid_ = fork();
    if (pid_ == 0) {
      SetCommandLine(words);
      HAVEN_CHECK_EQ(write(ready[1], "", 1), 1);
      for (;;) pause();
    }
    char byte;
    HAVEN_CHECK_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
  }
  ~Process() {
    kill(pid_, SIGKILL);
    if (!reaped_) waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  bool Lives() { return !reaped_ && !(reaped_ = waitpid(pid_, nullptr, WNOHANG) == pid_); }
  // Waits for its end.
  void Reap() { reaped_ = waitpid(pid_, nullptr, 0) == pid_; }

 private:
  pid_t pid_ = 0;
  bool reaped_ = false;
};

constexpr char kOfSeven[] = "/usr/bin/qemu-system-i386\0-xen-domid\0007\0-no-shutdown";

TEST(LeftDeviceModelTest, TheOneOfTheDomainIsKilled) {
  Process qemu(absl::string_view(kOfSeven, sizeof(kOfSeven)));
  EXPECT_TRUE(KillLeftDeviceModel(qemu.pid(), 7).ok());
  qemu.Reap();
  EXPECT_TRUE(absl::IsNotFound(KillLeftDeviceModel(qemu.pid(), 7)));
}

TEST(LeftDeviceModelTest, TheStoreNamesIt) {
  auto content = std::make_shared<FakeStoreContent>();
  FakeStore store(content);
  EXPECT_TRUE(KillLeftDeviceModel(store, 7).ok()) << "there is none";
  Process qemu(absl::string_view(kOfSeven, sizeof(kOfSeven)));
  std::string& pid = content->entries["/local/domain/7/image/device-model-pid"];
  for (const char* const rubbish : {"", "-1", "0", "x"}) {
    pid = rubbish;
    EXPECT_TRUE(KillLeftDeviceModel(store, 7).ok()) << rubbish;
  }
  EXPECT_TRUE(qemu.Lives());
  pid = absl::StrCat(qemu.pid());
  EXPECT_TRUE(KillLeftDeviceModel(store, 7).ok());
  qemu.Reap();
}

TEST(LeftDeviceModelTest, AnythingElseLives) {
  Process of_another(absl::string_view(kOfSeven, sizeof(kOfSeven)));
  EXPECT_TRUE(absl::IsNotFound(KillLeftDeviceModel(of_another.pid(), 70)));
  constexpr char kShell[] = "/bin/sh\0-xen-domid\0007";
  Process shell(absl::string_view(kShell, sizeof(kShell)));
  EXPECT_TRUE(absl::IsNotFound(KillLeftDeviceModel(shell.pid(), 7)));
  constexpr char kShort[] = "qemu";
  Process unlike(absl::string_view(kShort, sizeof(kShort)));
  EXPECT_TRUE(absl::IsNotFound(KillLeftDeviceModel(unlike.pid(), 7)));
  for (Process* const process : {&of_another, &shell, &unlike}) EXPECT_TRUE(process->Lives());
}

}  // namespace
}  // namespace haven
