// SPDX-License-Identifier: Apache-2.0
#include "xen/base/left_device_model.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/fd.h"

namespace haven {
namespace {

// As libxl starts it: the program, then its domain.
bool IsDeviceModelOf(pid_t pid, uint32_t domid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/cmdline"), std::ios::binary);
  const std::string line((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<std::string> words = absl::StrSplit(line, '\0');
  return words.size() > 2 && absl::StrContains(words[0], "qemu") && words[1] == "-xen-domid" &&
         words[2] == absl::StrCat(domid);
}

}  // namespace

absl::Status KillLeftDeviceModel(pid_t pid, uint32_t domid) {
  // Before it is looked at: the signal never reaches another process that got the number since.
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process || !IsDeviceModelOf(pid, domid)) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is not QEMU for domain ", domid));
  }
  if (syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) == 0 || errno == ESRCH) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("kill process ", pid, ", QEMU for domain ", domid, ": ", std::strerror(errno)));
}

absl::Status KillLeftDeviceModel(XenStore& store, uint32_t domid) {
  const absl::StatusOr<std::string> text =
      store.Read(absl::StrCat("/local/domain/", domid, "/image/device-model-pid"));
  pid_t pid = 0;
  if (!text.ok() || !absl::SimpleAtoi(*text, &pid) || pid <= 0) return absl::OkStatus();
  const absl::Status killed = KillLeftDeviceModel(pid, domid);
  return absl::IsNotFound(killed) ? absl::OkStatus() : killed;
}

}  // namespace haven
