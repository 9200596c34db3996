// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/after_run.h"

#include <array>
#include <chrono>
#include <utility>

#include "engine/base/log.h"

namespace haven {
namespace {

// Frames get lost, and a switch may not forward yet. The steps that QEMU takes.
constexpr std::array<int64_t, 4> kAnnounceAgainMs = {50, 150, 250, 350};

}  // namespace

AfterRun::AfterRun(std::unique_ptr<ReplicaHost> host, uint32_t domid, GuestConfig config)
    : host_(std::move(host)), domid_(domid), config_(std::move(config)) {
  absl::StatusOr<Thread> thread = Thread::Start("haven-after-run", [this] { Work(); });
  if (thread.ok()) {
    thread_ = *std::move(thread);
    return;
  }
  HAVEN_LOG(kWarning, "xen") << "guest " << config_.name << ": "
                             << std::string(thread.status().message())
                             << "; it is announced once only";
  stop_ = true;
  Work();
}

AfterRun::~AfterRun() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.Join();
}

void AfterRun::Work() {
  Announce();
  const absl::Status named = host_->Rename(domid_, config_.name);
  if (!named.ok()) {
    HAVEN_LOG(kWarning, "xen") << "guest " << config_.name << " runs as domain " << domid_
                               << ", but is still called " << config_.name
                               << "--incoming: " << std::string(named.message())
                               << ". Use `xl rename` when the name is free";
  }
  const absl::Status offered = host_->OfferSuspend(domid_);
  if (!offered.ok()) {
    HAVEN_LOG(kWarning, "xen") << "guest " << config_.name
                               << " can not be protected again: " << std::string(offered.message());
  }
  for (const int64_t ms : kAnnounceAgainMs) {
    if (StopWithin(ms)) return;
    Announce();
  }
}

void AfterRun::Announce() {
  for (const GuestNic& nic : config_.nics) {
    if (nic.bridge.empty()) continue;
    const absl::Status announced = host_->Announce(nic);
    if (!announced.ok()) {
      HAVEN_LOG(kWarning, "xen") << "guest " << config_.name << ": "
                                 << std::string(announced.message());
    }
  }
}

bool AfterRun::StopWithin(int64_t ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  return wake_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_; });
}

}  // namespace haven
