// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/cooperative_suspend.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

constexpr char kSuspend[] = "suspend";

// The store's daemon sees every domain that has shut down whenever any of them has.
constexpr char kDomainEnds[] = "@releaseDomain";

std::string MarkPath(uint32_t domid) { return absl::StrCat("/libxl/", domid, "/haven-suspends"); }

}  // namespace

absl::StatusOr<std::unique_ptr<CooperativeSuspend>> CooperativeSuspend::Create(
    Seams seams, std::shared_ptr<XenStopState> state, XenStore& patient) {
  HAVEN_RETURN_IF_ERROR(seams.watch->Watch(kDomainEnds));
  const absl::Status mark = patient.Read(MarkPath(seams.control->domid())).status();
  if (!mark.ok() && !absl::IsNotFound(mark)) return mark;
  UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd) return absl::ErrnoToStatus(errno, "create an epoll descriptor");
  const int devices = seams.device_model == nullptr ? -1 : seams.device_model->event_fd();
  for (const int fd : {seams.event->fd(), seams.watch->event_fd(), devices}) {
    if (fd < 0) continue;
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return absl::ErrnoToStatus(errno, "watch a guest's events");
    }
  }
  return std::unique_ptr<CooperativeSuspend>(
      new CooperativeSuspend(std::move(seams), std::move(state), std::move(epoll_fd), mark.ok()));
}

CooperativeSuspend::CooperativeSuspend(Seams seams, std::shared_ptr<XenStopState> state,
                                       UniqueFd epoll_fd, bool inherited)
    : seams_(std::move(seams)),
      state_(std::move(state)),
      epoll_fd_(std::move(epoll_fd)),
      path_(absl::StrCat("/local/domain/", seams_.control->domid(), "/control/shutdown")),
      mark_path_(MarkPath(seams_.control->domid())),
      marked_(inherited),
      inherited_until_ns_(inherited ? seams_.clock->NowNs() + kTakenMaxNs : 0) {}

// The mark stays as long as it is not certain that nothing is on its way.
CooperativeSuspend::~CooperativeSuspend() {
  const int64_t until_ns = std::max(taken_until_ns_, inherited_until_ns_);
  if (!marked_ || state_->wanted || state_->stopped || seams_.clock->NowNs() < until_ns) return;
  const absl::Status removed = seams_.store->Remove(mark_path_);
  if (!removed.ok()) HAVEN_LOG(kWarning, "xen") << std::string(removed.message());
}

absl::Status CooperativeSuspend::Request() {
  state_->wanted = true;
  // The guest that has taken an earlier request answers this one with it.
  if (taken_until_ns_ > seams_.clock->NowNs()) return absl::OkStatus();
  // One that stands already would read the request when it goes on, and stop once more.
  const absl::StatusOr<XenDomainStatus> status = seams_.control->Status();
  if (status.ok() && status->suspended()) return absl::OkStatus();
  if (!marked_) HAVEN_RETURN_IF_ERROR(seams_.store->Write(mark_path_, "asked"));
  marked_ = true;
  // Not waited for: the guest answers, and the guests of a group are asked together.
  HAVEN_RETURN_IF_ERROR(seams_.store->Post(path_, kSuspend));
  wrote_ = asked_ = true;
  return absl::OkStatus();
}

SuspendMethod::State CooperativeSuspend::Poll() {
  // Emptied before looking, so that what happens after the look is an event again.
  seams_.event->Take();
  if (seams_.watch->TakeEvents()) tell_store_ = true;
  if (seams_.device_model != nullptr) seams_.device_model->Poll();
  const absl::StatusOr<XenDomainStatus> status = seams_.control->Status();
  // Whether the guest is gone is not known by another error: the next look tells.
  if (!status.ok()) return absl::IsNotFound(status.status()) ? State::kGone : State::kRunning;
  if (status->dying || (status->shutdown && !status->suspended())) return State::kGone;
  state_->stopped = status->suspended();
  if (state_->wanted) {
    return state_->stopped && DevicesStand() ? State::kSuspended : State::kRunning;
  }
  if (state_->stopped) return GoOn().ok() ? State::kRunning : State::kSuspended;
  // On its way to a stop that nobody wants any more.
  const int64_t until_ns = std::max(taken_until_ns_, inherited_until_ns_);
  return seams_.clock->NowNs() < until_ns ? State::kSuspended : State::kRunning;
}

absl::Status CooperativeSuspend::Resume() {
  state_->wanted = false;
  const bool asked = std::exchange(asked_, false);
  HAVEN_ASSIGN_OR_RETURN(const XenDomainStatus status, [this]() -> absl::StatusOr<XenDomainStatus> {
    absl::StatusOr<XenDomainStatus> found = seams_.control->Status();
    if (!absl::IsNotFound(found.status())) return found;
    return absl::UnavailableError(found.status().message());
  }());
  if (status.dying || (status.shutdown && !status.suspended())) {
    return absl::UnavailableError(
        absl::StrCat("domain ", seams_.control->domid(), " has ended by itself"));
  }
  if (status.suspended()) return GoOn();
  state_->stopped = false;
  // Somebody else may have let the guest go on, and it alone.
  if (seams_.device_model != nullptr) seams_.device_model->Run();
  const absl::StatusOr<bool> taken_back = seams_.store->Replace(path_, kSuspend, "");
  if (taken_back.ok() && *taken_back) {
    taken_until_ns_ = 0;
    // That of a killed process was the last one there can be, unless it is this one's.
    if (!wrote_) inherited_until_ns_ = 0;
    return absl::OkStatus();
  }
  const int64_t now_ns = seams_.clock->NowNs();
  if (asked && taken_until_ns_ <= now_ns) taken_until_ns_ = now_ns + kTakenMaxNs;
  return taken_back.status();
}

bool CooperativeSuspend::DevicesStand() {
  if (seams_.device_model == nullptr) return true;
  seams_.device_model->Stop();
  const DeviceModel::State now = seams_.device_model->Poll();
  return now == DeviceModel::State::kStopped || now == DeviceModel::State::kLost;
}

absl::Status CooperativeSuspend::GoOn() {
  // First: a guest that resumes talks to its emulated devices at once.
  if (seams_.device_model != nullptr) seams_.device_model->Run();
  HAVEN_RETURN_IF_ERROR(seams_.control->ResumeCancelled());
  state_->stopped = false;
  taken_until_ns_ = inherited_until_ns_ = 0;
  if (!std::exchange(tell_store_, false)) return absl::OkStatus();
  // The guest runs: that the daemon was not told costs no more than the news of its end.
  const absl::Status told = seams_.store->ResumeDomain(seams_.control->domid());
  if (!told.ok()) HAVEN_LOG(kWarning, "xen") << std::string(told.message());
  return absl::OkStatus();
}

}  // namespace haven
