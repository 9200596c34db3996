// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/cooperative_suspend.h"

#include <sys/epoll.h>

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

}  // namespace

absl::StatusOr<std::unique_ptr<CooperativeSuspend>> CooperativeSuspend::Create(
    Seams seams, std::shared_ptr<XenStopState> state) {
  HAVEN_RETURN_IF_ERROR(seams.watch->Watch(kDomainEnds));
  UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd) return absl::ErrnoToStatus(errno, "create an epoll descriptor");
  for (const int fd : {seams.event->fd(), seams.watch->event_fd()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return absl::ErrnoToStatus(errno, "watch a guest's events");
    }
  }
  return std::unique_ptr<CooperativeSuspend>(
      new CooperativeSuspend(std::move(seams), std::move(state), std::move(epoll_fd)));
}

CooperativeSuspend::CooperativeSuspend(Seams seams, std::shared_ptr<XenStopState> state,
                                       UniqueFd epoll_fd)
    : seams_(std::move(seams)),
      state_(std::move(state)),
      epoll_fd_(std::move(epoll_fd)),
      path_(absl::StrCat("/local/domain/", seams_.control->domid(), "/control/shutdown")) {}

absl::Status CooperativeSuspend::Request() {
  state_->wanted = true;
  // The guest that has taken an earlier request answers this one with it.
  if (std::exchange(let_go_until_ns_, 0) > seams_.clock->NowNs()) return absl::OkStatus();
  return seams_.store->Write(path_, kSuspend);
}

SuspendMethod::State CooperativeSuspend::Poll() {
  // Emptied before looking, so that what happens after the look is an event again.
  seams_.event->Take();
  if (seams_.watch->TakeEvents()) tell_store_ = true;
  const absl::StatusOr<XenDomainStatus> status = seams_.control->Status();
  // Whether the guest is gone is not known by another error: the next look tells.
  if (!status.ok()) return absl::IsNotFound(status.status()) ? State::kGone : State::kRunning;
  if (status->dying || (status->shutdown && !status->suspended())) return State::kGone;
  state_->stopped = status->suspended();
  if (state_->wanted) return state_->stopped ? State::kSuspended : State::kRunning;
  if (state_->stopped) return GoOn().ok() ? State::kRunning : State::kSuspended;
  // On its way to a stop that nobody wants any more.
  return seams_.clock->NowNs() < let_go_until_ns_ ? State::kSuspended : State::kRunning;
}

absl::Status CooperativeSuspend::Resume() {
  const bool asked = std::exchange(state_->wanted, false);
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
  const absl::StatusOr<bool> taken_back = seams_.store->Replace(path_, kSuspend, "");
  HAVEN_RETURN_IF_ERROR(taken_back.status());
  if (asked && !*taken_back) let_go_until_ns_ = seams_.clock->NowNs() + kTakenMaxNs;
  return absl::OkStatus();
}

absl::Status CooperativeSuspend::GoOn() {
  HAVEN_RETURN_IF_ERROR(seams_.control->ResumeCancelled());
  state_->stopped = false;
  let_go_until_ns_ = 0;
  if (!std::exchange(tell_store_, false)) return absl::OkStatus();
  // The guest runs: that the daemon was not told costs no more than the news of its end.
  const absl::Status told = seams_.store->ResumeDomain(seams_.control->domid());
  if (!told.ok()) HAVEN_LOG(kWarning, "xen") << std::string(told.message());
  return absl::OkStatus();
}

}  // namespace haven
