// SPDX-License-Identifier: Apache-2.0
//
// Replicates a running guest into this process' own memory, as an engine would, and compares:
//
//   xen_probe GUEST EPOCHS INTERVAL_MS
//   xen_probe --steal GUEST
//
// Copies all RAM while the guest runs, then for each epoch counts the dirty frames, suspends the
// guest, fetches them (no fewer than were counted), copies them, takes the state and lets it go on.
// After the last epoch every RAM frame of the suspended guest is compared with the copy. Prints
// figures as NAME VALUE, one a line, and exits with 0 if all frames were equal. --steal takes the
// log of dirty frames away from whoever has it, as other toolstack actions do.
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/primary/dirty_words.h"
#include "engine/primary/domain.h"
#include "xen/base/xc_domain_control.h"
#include "xen/primary/attach.h"

namespace haven {
namespace {

constexpr int64_t kSuspendTimeoutNs = 30 * kNsPerSecond;
constexpr uint64_t kPrintedMax = 20;

int64_t Now() { return SystemClock::Get().NowNs(); }

// One step of an epoch, in microseconds.
class Step {
 public:
  explicit Step(const char* name) : name_(name) {}
  void Add(int64_t ns) { values_.push_back(ns / 1000); }
  void Print() {
    if (values_.empty()) return;
    std::sort(values_.begin(), values_.end());
    std::printf("%s_us p50=%lld p99=%lld max=%lld\n", name_, At(50), At(99),
                static_cast<long long>(values_.back()));
  }

 private:
  long long At(size_t percent) const {
    return static_cast<long long>(values_[(values_.size() - 1) * percent / 100]);
  }

  const char* name_;
  std::vector<int64_t> values_;
};

class Probe {
 public:
  explicit Probe(XenGuest guest)
      : guest_(std::move(guest)),
        memory_(guest_.domain->memory()),
        copy_(memory_.page_count()),
        dirty_(memory_.bitmap_words()),
        state_(guest_.domain->max_state_bytes()) {}

  absl::Status Start() {
    HAVEN_RETURN_IF_ERROR(guest_.domain->EnableLogDirty());
    const int64_t begin = Now();
    dirty_ = memory_.ram_bitmap();
    const uint64_t pages = CopyDirty();
    std::printf("copied pages=%llu ms=%lld\n", static_cast<unsigned long long>(pages),
                static_cast<long long>((Now() - begin) / kNsPerMs));
    return absl::OkStatus();
  }

  absl::Status Stop() {
    const int64_t begin = Now();
    HAVEN_RETURN_IF_ERROR(guest_.suspend->Request());
    request_.Add(Now() - begin);
    while (guest_.suspend->Poll() == SuspendMethod::State::kRunning) {
      const int64_t left = begin + kSuspendTimeoutNs - Now();
      if (left <= 0) return absl::DeadlineExceededError("the guest does not suspend");
      pollfd ready = {guest_.suspend->event_fd(), POLLIN, 0};
      poll(&ready, 1, static_cast<int>(left / kNsPerMs) + 1);
    }
    suspend_.Add(Now() - begin);
    return absl::OkStatus();
  }

  absl::Status Epoch() {
    const int64_t count_at = Now();
    HAVEN_ASSIGN_OR_RETURN(const uint64_t counted, guest_.domain->CountDirty());
    count_.Add(Now() - count_at);
    HAVEN_RETURN_IF_ERROR(Stop());
    const int64_t begin = Now();
    std::fill(dirty_.begin(), dirty_.end(), 0);
    const absl::Status fetched = guest_.domain->FetchAndClearDirty(dirty_);
    const int64_t fetched_at = Now();
    if (absl::IsAborted(fetched)) {
      std::printf("lost %s\n", std::string(fetched.message()).c_str());
      dirty_ = memory_.ram_bitmap();
    } else {
      HAVEN_RETURN_IF_ERROR(fetched);
      if (CountSet(dirty_) < counted) {
        return absl::InternalError(absl::StrCat("the log had ", counted, " frames, and then ",
                                                CountSet(dirty_), ": one was lost, or miscounted"));
      }
    }
    fetch_.Add(fetched_at - begin);
    const uint64_t pages = CopyDirty();
    const int64_t copied_at = Now();
    copying_.Add(copied_at - fetched_at);
    HAVEN_ASSIGN_OR_RETURN(const size_t bytes, guest_.domain->CaptureState(state_));
    const int64_t captured_at = Now();
    capture_.Add(captured_at - copied_at);
    pages_ += pages;
    state_bytes_ = bytes;
    if (compare_) Compare();
    const int64_t resume_at = Now();
    HAVEN_RETURN_IF_ERROR(guest_.suspend->Resume());
    if (guest_.suspend->Poll() != SuspendMethod::State::kRunning) {
      return absl::InternalError("the guest does not go on");
    }
    resume_.Add(Now() - resume_at);
    stopped_.Add(Now() - begin);
    return absl::OkStatus();
  }

  // In the next epoch, before the guest goes on.
  void CompareNext() { compare_ = true; }

  bool Report(uint64_t epochs) {
    for (Step* step :
         {&count_, &request_, &suspend_, &fetch_, &copying_, &capture_, &resume_, &stopped_}) {
      step->Print();
    }
    std::printf("epochs %llu\ndirty_pages %llu\nstate_bytes %zu\ncompared %llu\ndifferent %llu\n",
                static_cast<unsigned long long>(epochs), static_cast<unsigned long long>(pages_),
                state_bytes_, static_cast<unsigned long long>(compared_),
                static_cast<unsigned long long>(different_));
    return compared_ > 0 && different_ == 0;
  }

 private:
  uint64_t CopyDirty() {
    uint64_t pages = 0;
    for (size_t i = 0; i < dirty_.size(); ++i) {
      uint64_t word = dirty_[i] & memory_.ram_bitmap()[i];
      for (; word != 0; word &= word - 1) {
        const Gfn gfn = i * 64 + static_cast<Gfn>(__builtin_ctzll(word));
        std::vector<std::byte>& page = copy_[gfn];
        page.resize(kPageBytes);
        std::memcpy(page.data(), memory_.Page(gfn), kPageBytes);
        ++pages;
      }
    }
    return pages;
  }

  void Compare() {
    for (Gfn gfn = 0; gfn < memory_.page_count(); ++gfn) {
      if (!memory_.IsRam(gfn)) continue;
      ++compared_;
      if (std::memcmp(copy_[gfn].data(), memory_.Page(gfn), kPageBytes) == 0) continue;
      if (++different_ <= kPrintedMax) {
        std::printf("differs gfn=%#llx\n", static_cast<unsigned long long>(gfn));
      }
    }
  }

  XenGuest guest_;
  const GuestMemory& memory_;
  std::vector<std::vector<std::byte>> copy_;
  std::vector<uint64_t> dirty_;
  std::vector<std::byte> state_;
  Step count_{"count"};
  Step request_{"request"};
  Step suspend_{"suspend"};
  Step fetch_{"fetch"};
  Step copying_{"copy"};
  Step capture_{"state"};
  Step resume_{"resume"};
  Step stopped_{"stopped"};
  bool compare_ = false;
  uint64_t pages_ = 0;
  uint64_t compared_ = 0;
  uint64_t different_ = 0;
  size_t state_bytes_ = 0;
};

absl::StatusOr<bool> Run(const std::string& name, uint64_t epochs, int interval_ms) {
  const int64_t begin = Now();
  HAVEN_ASSIGN_OR_RETURN(XenGuest guest, AttachXenGuest(name, XenHold::kReplicate, {}));
  std::printf("attached ms=%lld config_bytes=%zu\n",
              static_cast<long long>((Now() - begin) / kNsPerMs),
              guest.domain->info().config.size());
  Probe probe(std::move(guest));
  HAVEN_RETURN_IF_ERROR(probe.Start());
  for (uint64_t i = 0; i < epochs; ++i) {
    poll(nullptr, 0, interval_ms);
    if (i + 1 == epochs) probe.CompareNext();
    HAVEN_RETURN_IF_ERROR(probe.Epoch());
  }
  return probe.Report(epochs);
}

absl::Status Steal(const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(name));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenDomainControl> control, OpenXenDomain(domid));
  HAVEN_RETURN_IF_ERROR(control->LogDirtyOff());
  return control->LogDirtyOn();
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--steal") == 0) {
    const absl::Status stolen = haven::Steal(argv[2]);
    if (!stolen.ok()) std::fprintf(stderr, "%s\n", std::string(stolen.message()).c_str());
    return stolen.ok() ? 0 : 1;
  }
  uint64_t epochs = 0;
  int interval_ms = 0;
  if (argc != 4 || !absl::SimpleAtoi(argv[2], &epochs) || epochs == 0 ||
      !absl::SimpleAtoi(argv[3], &interval_ms) || interval_ms < 0) {
    std::fprintf(stderr, "usage: xen_probe GUEST EPOCHS INTERVAL_MS | --steal GUEST\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const absl::StatusOr<bool> equal = haven::Run(argv[1], epochs, interval_ms);
  if (!equal.ok()) std::fprintf(stderr, "%s\n", std::string(equal.status().message()).c_str());
  return equal.ok() && *equal ? 0 : 1;
}
