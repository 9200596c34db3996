// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/toolstack_monitor.h"

#include <signal.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/file_util.h"
#include "engine/base/log.h"

namespace haven {

namespace {

constexpr size_t kCommMax = 64;

bool IsLogOf(absl::string_view file, const std::string& guest) {
  if (!absl::ConsumePrefix(&file, absl::StrCat("xl-", guest))) return false;
  absl::ConsumePrefix(&file, "--incoming");
  if (!absl::ConsumePrefix(&file, ".log")) return false;
  uint32_t number = 0;
  return file.empty() || (absl::ConsumePrefix(&file, ".") && absl::SimpleAtoi(file, &number));
}

// How many there were.
int Signal(const std::string& guest, int number, const char* what) {
  int count = 0;
  for (const pid_t pid : FindToolstackMonitors(guest)) {
    if (kill(pid, number) != 0) continue;
    ++count;
    HAVEN_LOG(kInfo, "xen") << "guest=" << guest << " the toolstack's monitor " << what
                            << ", pid=" << pid;
  }
  return count;
}

}  // namespace

std::vector<pid_t> FindToolstackMonitors(const std::string& guest, const std::string& proc) {
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
    if (!error && IsLogOf(out.filename().string(), guest)) found.push_back(pid);
  }
  return found;
}

void StopToolstackMonitors(const std::string& guest) {
  if (Signal(guest, SIGSTOP, "stands still while it is protected") > 0) return;
  HAVEN_LOG(kWarning, "xen") << "guest=" << guest
                             << " has no monitor of xl that is known by this name: nobody does "
                                "what on_reboot and on_crash say, unless another program does "
                                "(xl of a guest that was renamed, libvirt), and that one would "
                                "not wait for the end of the protection";
}

void ContinueToolstackMonitors(const std::string& guest) { Signal(guest, SIGCONT, "goes on"); }

}  // namespace haven
