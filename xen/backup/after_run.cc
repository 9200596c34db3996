// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/after_run.h"

#include <poll.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/log.h"

namespace haven {
namespace {

// Frames get lost, and a switch may not forward yet. The steps that QEMU takes.
constexpr std::array<int, 4> kAnnounceAgainMs = {50, 150, 250, 350};

// A store that is slow after a host has taken over what another one did is not slow for long.
constexpr int kStoreTries = 60;
constexpr int kStoreRetryMs = 1000;

}  // namespace

class AfterRun::Work {
 public:
  Work(std::unique_ptr<ReplicaHost> host, uint32_t domid, GuestConfig config)
      : host_(std::move(host)), domid_(domid), config_(std::move(config)) {}

  void Once() {
    Announce();
    TellStore();
    const std::lock_guard<std::mutex> lock(mutex_);
    told_once_ = true;
    wake_.notify_all();
  }

  void All() {
    Once();
    for (const int pause_ms : kAnnounceAgainMs) {
      poll(nullptr, 0, pause_ms);
      Announce();
    }
    for (int i = 0; i < kStoreTries && Lives() && !TellStore(); ++i) {
      poll(nullptr, 0, kStoreRetryMs);
    }
    if (offered_ || !Lives()) return;
    HAVEN_LOG(kError, "xen") << "guest " << config_.name
                             << " can not be protected again before it has booted anew, or "
                             << "`xenstore-write /local/domain/" << domid_
                             << "/control/feature-suspend 1` has said that it can be suspended";
  }

  void AwaitOnce() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return told_once_; });
  }

 private:
  void Announce();
  bool TellStore();
  // What is said of a domain that is gone would stay in the store for good.
  bool Lives() {
    const absl::StatusOr<ReplicaHost::DomainState> state = host_->StateOf(domid_);
    return !state.ok() || *state != ReplicaHost::DomainState::kGone;
  }

  // But for what the mutex is for, of the working thread.
  const std::unique_ptr<ReplicaHost> host_;
  const uint32_t domid_;
  const GuestConfig config_;
  bool named_ = false;  // Or never will be.
  bool offered_ = false;
  // The troubles that were told last.
  std::string name_trouble_;
  std::string offer_trouble_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool told_once_ = false;  // Under mutex_.
};

AfterRun::AfterRun(std::unique_ptr<ReplicaHost> host, uint32_t domid, GuestConfig config)
    : work_(std::make_shared<Work>(std::move(host), domid, config)) {
  absl::StatusOr<Thread> thread = Thread::Start("haven-after-run", [work = work_] { work->All(); });
  if (thread.ok()) {
    thread_ = *std::move(thread);
    return;
  }
  HAVEN_LOG(kWarning, "xen") << "guest " << config.name << ": "
                             << std::string(thread.status().message())
                             << "; it is announced once only";
  work_->Once();
}

AfterRun::~AfterRun() {
  work_->AwaitOnce();
  thread_.Detach();
}

void AfterRun::Work::Announce() {
  for (const GuestNic& nic : config_.nics) {
    if (nic.bridge.empty()) continue;
    const absl::Status announced = host_->Announce(nic);
    if (!announced.ok()) {
      HAVEN_LOG(kWarning, "xen") << "guest " << config_.name << ": "
                                 << std::string(announced.message());
    }
  }
}

// True: there is nothing left to say. Each trouble is told when it changes.
bool AfterRun::Work::TellStore() {
  if (!named_) {
    const absl::Status named = host_->Rename(domid_, config_.name);
    // Another domain keeps its name: this one goes without.
    named_ = named.ok() || absl::IsAlreadyExists(named);
    const std::string trouble(named.message());
    if (std::exchange(name_trouble_, trouble) != trouble && !named.ok()) {
      HAVEN_LOG(kWarning, "xen") << "guest " << config_.name << " runs as domain " << domid_
                                 << ", but is still called " << config_.name
                                 << "--incoming: " << trouble
                                 << ". Use `xl rename` when the name is free";
    }
  }
  if (!offered_) {
    const absl::Status offered = host_->OfferSuspend(domid_);
    offered_ = offered.ok();
    const std::string trouble(offered.message());
    if (std::exchange(offer_trouble_, trouble) != trouble && !offered.ok()) {
      HAVEN_LOG(kWarning, "xen") << "guest " << config_.name
                                 << " can not be protected again yet: " << trouble;
    }
  }
  return named_ && offered_;
}

}  // namespace haven
