// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/toolstack_monitor.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file_util.h"
#include "engine/base/log.h"

namespace haven {

namespace {

constexpr size_t kCommMax = 64;

void Signal(const std::string& guest, int number, const char* what) {
  for (const pid_t pid : FindToolstackMonitors(guest)) {
    if (kill(pid, number) != 0) continue;
    HAVEN_LOG(kInfo, "xen") << "guest=" << guest << " the toolstack's monitor " << what
                            << ", pid=" << pid;
  }
}

}  // namespace

std::vector<pid_t> FindToolstackMonitors(const std::string& guest, const std::string& proc) {
  // The monitor of a copy that was promoted here writes under the name that the copy had before.
  const std::array<std::string, 2> logs = {absl::StrCat("xl-", guest, ".log"),
                                           absl::StrCat("xl-", guest, "--incoming.log")};
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(proc, error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const absl::StatusOr<std::string> comm =
        ReadBoundedFile((entry.path() / "comm").string(), kCommMax);
    if (!comm.ok() || absl::StripAsciiWhitespace(*comm) != "xl") continue;
    const std::filesystem::path out =
        std::filesystem::read_symlink(entry.path() / "fd" / "1", error);
    if (error || std::find(logs.begin(), logs.end(), out.filename().string()) == logs.end()) {
      continue;
    }
    found.push_back(pid);
  }
  return found;
}

void StopToolstackMonitors(const std::string& guest) {
  Signal(guest, SIGSTOP, "stands still while it is protected");
}

void ContinueToolstackMonitors(const std::string& guest) { Signal(guest, SIGCONT, "goes on"); }

}  // namespace haven
