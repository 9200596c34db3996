// SPDX-License-Identifier: Apache-2.0
//
// Watches from outside how a guest is stopped and goes on, whoever does that:
//
//   xen_watch GUEST SECONDS
//
// Looks at the domain's state every millisecond, and prints each change as a line, the time of
// day in seconds and the state: running, paused, suspended, ended, gone. The guest keeps being
// watched when it is renamed. Exits with 0 when the time is up or the guest is gone.
#include <poll.h>
#include <time.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "xen/base/xc_domain_control.h"
#include "xen/primary/attach.h"

namespace haven {
namespace {

constexpr int kBetweenLooksMs = 1;

const char* StateName(const absl::StatusOr<XenDomainStatus>& status) {
  if (!status.ok() || status->dying) return "gone";
  if (status->suspended()) return "suspended";
  if (status->shutdown) return "ended";
  return status->paused ? "paused" : "running";
}

absl::Status Watch(const std::string& name, int64_t seconds) {
  HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(name));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenDomainControl> control, OpenXenDomain(domid));
  const int64_t end_ns = SystemClock::Get().NowNs() + seconds * kNsPerSecond;
  std::string last;
  while (SystemClock::Get().NowNs() < end_ns && last != "gone") {
    const std::string now = StateName(control->Status());
    if (now != last) {
      timespec time = {};
      clock_gettime(CLOCK_REALTIME, &time);
      std::printf("%lld.%06ld %s\n", static_cast<long long>(time.tv_sec), time.tv_nsec / 1000,
                  now.c_str());
      last = now;
    }
    poll(nullptr, 0, kBetweenLooksMs);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  int64_t seconds = 0;
  if (argc != 3 || !absl::SimpleAtoi(argv[2], &seconds) || seconds <= 0) {
    std::fprintf(stderr, "usage: xen_watch GUEST SECONDS\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const absl::Status watched = haven::Watch(argv[1], seconds);
  if (!watched.ok()) std::fprintf(stderr, "%s\n", std::string(watched.message()).c_str());
  return watched.ok() ? 0 : 1;
}
