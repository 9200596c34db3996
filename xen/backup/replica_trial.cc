// SPDX-License-Identifier: Apache-2.0
//
// Builds a waiting copy of a guest on the guest's own host, without an engine and without a
// network: what the lab proves XenReplica with (tests/lab/scenarios/xen_replica.py).
//
//   xen_replica_trial promote GUEST   copies the stopped guest, destroys it, lets the copy run
//   xen_replica_trial abandon GUEST   builds a copy and abandons it
//   xen_replica_trial orphan GUEST    builds a copy and kills the toolstack's process that keeps it
//   xen_replica_trial hold GUEST      builds a copy and waits to be killed
//
// Further words are those of ParseXenReplicaOptions(). What it finds is on stdout, `name=value` a
// line.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/replica/control_message.h"
#include "xen/backup/build_xen_replica.h"
#include "xen/backup/xen_replica_host.h"
#include "xen/base/frame_runs.h"
#include "xen/primary/attach.h"

namespace haven {
namespace {

constexpr int64_t kSuspendMaxNs = 30 * kNsPerSecond;
constexpr useconds_t kPollUs = 1000;

void Say(const char* name, const std::string& value) {
  std::printf("%s=%s\n", name, value.c_str());
  std::fflush(stdout);
}

class Stopwatch {
 public:
  void Say(const char* name) const {
    haven::Say(name, absl::StrCat(static_cast<double>(ElapsedNs()) / 1e6));
  }
  int64_t ElapsedNs() const { return SystemClock::Get().NowNs() - start_ns_; }

 private:
  const int64_t start_ns_ = SystemClock::Get().NowNs();
};

HelloDomain Describe(const Domain& domain) {
  HelloDomain hello;
  hello.name = domain.info().name;
  hello.uuid = domain.info().uuid;
  hello.config = domain.info().config;
  hello.page_count = domain.memory().page_count();
  hello.max_state_bytes = static_cast<uint32_t>(domain.max_state_bytes());
  const std::vector<uint64_t>& ram = domain.memory().ram_bitmap();
  for (FrameRange run = NextFrameRange(ram, 0, hello.page_count); !run.empty();
       run = NextFrameRange(ram, run.end, hello.page_count)) {
    hello.ram.push_back({run.first, run.end - run.first});
  }
  return hello;
}

absl::Status Stop(SuspendMethod& suspend) {
  const Stopwatch watch;
  HAVEN_RETURN_IF_ERROR(suspend.Request());
  while (suspend.Poll() == SuspendMethod::State::kRunning) {
    if (watch.ElapsedNs() > kSuspendMaxNs) {
      return absl::DeadlineExceededError("the guest does not suspend");
    }
    usleep(kPollUs);
  }
  watch.Say("suspend_ms");
  return absl::OkStatus();
}

void CopyMemory(const GuestMemory& from, const GuestMemory& to) {
  const Stopwatch watch;
  for (Gfn gfn = 0; gfn < from.page_count(); ++gfn) {
    if (from.IsRam(gfn)) std::memcpy(to.Page(gfn), from.Page(gfn), kPageBytes);
  }
  watch.Say("copy_ms");
}

absl::Status Promote(XenGuest& guest, XenReplica& replica) {
  std::vector<std::byte> state(guest.domain->max_state_bytes());
  HAVEN_RETURN_IF_ERROR(Stop(*guest.suspend));
  HAVEN_ASSIGN_OR_RETURN(const size_t bytes, guest.domain->CaptureState(state));
  state.resize(bytes);
  CopyMemory(guest.domain->memory(), replica.memory());
  HAVEN_RETURN_IF_ERROR(replica.CheckState(state));
  HAVEN_RETURN_IF_ERROR(guest.domain->Destroy());
  const Stopwatch all;
  HAVEN_RETURN_IF_ERROR(replica.Prepare(state));
  all.Say("prepared_ms");
  HAVEN_RETURN_IF_ERROR(replica.Run());
  all.Say("running_ms");
  return replica.Run();
}

absl::Status Orphan(XenGuest& guest, XenReplica& replica) {
  std::vector<std::byte> state(guest.domain->max_state_bytes());
  HAVEN_ASSIGN_OR_RETURN(const size_t bytes, guest.domain->CaptureState(state));
  state.resize(bytes);
  HAVEN_RETURN_IF_ERROR(replica.CheckState(state));
  kill(replica.toolstack_pid(), SIGKILL);
  absl::Status checked;
  for (const Stopwatch watch; checked.ok() && watch.ElapsedNs() < kNsPerSecond; usleep(kPollUs)) {
    checked = replica.CheckState(state);
  }
  Say("checked", std::string(checked.message()));
  return replica.Abandon();
}

absl::Status Try(const std::string& what, const std::string& name, const std::string& words) {
  HAVEN_ASSIGN_OR_RETURN(const XenReplicaOptions options, ParseXenReplicaOptions(words));
  HAVEN_ASSIGN_OR_RETURN(XenGuest guest, AttachXenGuest(name, XenHold::kReplicate, {}));
  const HelloDomain hello = Describe(*guest.domain);
  Say("description_bytes", absl::StrCat(hello.config.size()));
  const Stopwatch watch;
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ReplicaHost> host, OpenReplicaHost());
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenReplica> replica,
                         BuildXenReplica(std::move(host), hello, options));
  watch.Say("build_ms");
  Say("domid", absl::StrCat(replica->domid()));
  if (what == "promote") return Promote(guest, *replica);
  if (what == "orphan") return Orphan(guest, *replica);
  if (what == "abandon") return replica->Abandon();
  if (what != "hold") return absl::InvalidArgumentError(absl::StrCat("what is \"", what, "\"?"));
  for (;;) pause();
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s promote|abandon|orphan|hold GUEST [OPTIONS]\n", argv[0]);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const absl::Status tried = haven::Try(argv[1], argv[2], argc == 4 ? argv[3] : "");
  if (tried.ok()) return 0;
  std::fprintf(stderr, "%s\n", tried.ToString().c_str());
  return 1;
}
