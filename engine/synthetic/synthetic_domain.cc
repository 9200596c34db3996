// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_domain.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/state.h"

namespace haven {

SyntheticDomain::SyntheticDomain(std::shared_ptr<SyntheticConnection> connection)
    : connection_(std::move(connection)),
      info_{connection_->spec().name, SyntheticUuid(connection_->spec()),
            FormatSyntheticSpec(connection_->spec())} {}

absl::Status SyntheticDomain::EnableLogDirty() {
  GuestMessage message;
  message.op = GuestOp::kEnableLogDirty;
  HAVEN_RETURN_IF_ERROR(connection_->channel().Call(message));
  breaks_ = message.values[0];
  return absl::OkStatus();
}

absl::Status SyntheticDomain::FetchAndClearDirty(std::span<uint64_t> bitmap) {
  HAVEN_CHECK_EQ(bitmap.size(), connection_->log_dirty().size());
  HAVEN_RETURN_IF_ERROR(connection_->CheckAlive());
  for (size_t i = 0; i < bitmap.size(); ++i) {
    const std::atomic_ref<uint64_t> word(connection_->log_dirty()[i]);
    if (word.load(std::memory_order_relaxed) == 0) continue;
    bitmap[i] |= word.exchange(0, std::memory_order_acq_rel);
  }
  return CheckLog();
}

absl::Status SyntheticDomain::FetchDirty(std::span<uint64_t> bitmap) {
  HAVEN_CHECK_EQ(bitmap.size(), connection_->log_dirty().size());
  HAVEN_RETURN_IF_ERROR(connection_->CheckAlive());
  for (size_t i = 0; i < bitmap.size(); ++i) {
    const std::atomic_ref<uint64_t> word(connection_->log_dirty()[i]);
    bitmap[i] |= word.load(std::memory_order_acquire);
  }
  return CheckLog();
}

// Looked at after the words: whoever broke the log said so before it emptied them.
absl::Status SyntheticDomain::CheckLog() {
  const SyntheticStatusPage& status = connection_->status();
  if (status.log_dirty_on == 1 && status.log_dirty_breaks == breaks_) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(EnableLogDirty());
  return absl::AbortedError(
      absl::StrCat("synthetic guest ", info_.name,
                   ": log-dirty was off, and is on again: every page must be sent once more"));
}

absl::StatusOr<uint64_t> SyntheticDomain::CountDirty() {
  HAVEN_RETURN_IF_ERROR(connection_->CheckAlive());
  uint64_t pages = 0;
  for (uint64_t& shared : connection_->log_dirty()) {
    const std::atomic_ref<uint64_t> word(shared);
    pages += static_cast<uint64_t>(std::popcount(word.load(std::memory_order_relaxed)));
  }
  return pages;
}

void SyntheticDomain::DisableLogDirty() {
  const absl::Status disabled = connection_->channel().Call(GuestOp::kDisableLogDirty);
  // A dead guest logs nothing, and the next engine starts its log anew.
  disabled.IgnoreError();
}

absl::StatusOr<size_t> SyntheticDomain::CaptureState(std::span<std::byte> out) {
  HAVEN_RETURN_IF_ERROR(connection_->CheckAlive());
  const SyntheticStatusPage& status = connection_->status();
  if (status.suspended_id == 0 && status.end == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", info_.name, ": its state can not be taken while it runs"));
  }
  const uint64_t bytes = status.state_bytes;
  if (bytes != max_state_bytes()) {
    return absl::UnavailableError(absl::StrCat("synthetic guest ", info_.name, ": its state has ",
                                               bytes, " bytes instead of ", max_state_bytes()));
  }
  if (bytes > out.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("synthetic guest ", info_.name,
                                                     ": its state has ", bytes,
                                                     " bytes, room is for ", out.size()));
  }
  std::copy_n(status.state.begin(), bytes, out.begin());
  return bytes;
}

size_t SyntheticDomain::max_state_bytes() const {
  return SyntheticStateBytes(connection_->spec().vcpus);
}

DomainEnd SyntheticDomain::End() {
  const uint64_t end = connection_->status().end;
  if (end != 0) return static_cast<DomainEnd>(end);
  return connection_->Dead() ? DomainEnd::kVanished : DomainEnd::kNone;
}

absl::Status SyntheticDomain::LetRun() { return connection_->channel().Call(GuestOp::kRun); }

absl::Status SyntheticDomain::Destroy() { return connection_->Kill(); }

absl::StatusOr<std::unique_ptr<SyntheticSuspend>> SyntheticSuspend::Create(
    std::shared_ptr<SyntheticConnection> connection) {
  UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd) return absl::ErrnoToStatus(errno, "create an epoll descriptor");
  for (const int fd : {connection->event_fd(), connection->pid_fd()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return absl::ErrnoToStatus(errno, "watch a synthetic guest's events");
    }
  }
  return std::unique_ptr<SyntheticSuspend>(
      new SyntheticSuspend(std::move(connection), std::move(epoll_fd)));
}

SyntheticSuspend::SyntheticSuspend(std::shared_ptr<SyntheticConnection> connection,
                                   UniqueFd epoll_fd)
    : connection_(std::move(connection)), epoll_fd_(std::move(epoll_fd)) {}

absl::Status SyntheticSuspend::Request() {
  last_id_ = std::max(last_id_ + 1, static_cast<uint64_t>(SystemClock::Get().NowNs()));
  HAVEN_RETURN_IF_ERROR(connection_->channel().Post(GuestOp::kSuspend, last_id_));
  requested_id_ = last_id_;
  return absl::OkStatus();
}

SuspendMethod::State SyntheticSuspend::Poll() {
  // Emptied before looking, so that what happens after the look is an event again.
  uint64_t events = 0;
  if (read(connection_->event_fd(), &events, sizeof(events)) < 0) HAVEN_CHECK_EQ(errno, EAGAIN);
  if (connection_->status().end != 0 || connection_->Dead()) return State::kGone;
  const bool stopped = requested_id_ != 0 && connection_->status().suspended_id == requested_id_;
  return stopped ? State::kSuspended : State::kRunning;
}

absl::Status SyntheticSuspend::Resume() {
  requested_id_ = 0;
  HAVEN_RETURN_IF_ERROR(connection_->CheckAlive());
  return connection_->channel().Post(GuestOp::kResume, 0);
}

}  // namespace haven
