// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_guest.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {

SimGuest::SimGuest(SimGroup& group, uint32_t index)
    : group_(group),
      index_(index),
      info_{"guest", "00000000-0000-0000-0000-000000000000", ""},
      memory_(std::make_unique<SimGuestMemory>()),
      dirty_(memory_->view().bitmap_words(), 0),
      written_at_(kSimPages, 0) {
  info_.name += static_cast<char>('0' + index);
  info_.uuid.back() = static_cast<char>('0' + index);
}

void SimGuest::Adopt(const SimState& state, std::unique_ptr<SimGuestMemory> memory) {
  memory_ = std::move(memory);
  step_ = state.step;
}

void SimGuest::RunSlice(bool burst) {
  if (stopped()) return;
  Random& random = group_.world().random;
  const uint64_t writes = burst ? 60 : random.Below(4);
  for (uint64_t i = 0; i < writes; ++i) {
    const Gfn gfn = random.Below(kSimPages);
    std::byte* const page = memory_->Touch(gfn);
    ++step_;
    if (random.Chance(1, 16)) {
      std::memset(page, 0, kPageBytes);
    } else if (group_.world().copies.has_value() && group_.world().copies->Chance(1, 3)) {
      group_.CopySomething(*group_.world().copies, page);
    } else {
      StoreLe64(page + random.Below(kPageBytes / 8) * 8, step_ ^ random.Next());
    }
    dirty_[gfn >> 6] |= uint64_t{1} << (gfn & 63);
    written_at_[gfn] = step_;
    if (random.Chance(1, 4)) group_.output().Emit({group_.copy(), index_, step_});
  }
}

uint64_t SimGuest::PagesSince(uint64_t step) const {
  return static_cast<uint64_t>(std::count_if(written_at_.begin(), written_at_.end(),
                                             [step](uint64_t at) { return at > step; }));
}

void SimGuest::EndAs(DomainEnd end) {
  if (ended()) return;
  end_ = end;
  ++suspend_request_;
}

absl::Status SimGuest::LetRun() {
  if (ended()) return Gone();
  waits_ = false;
  return absl::OkStatus();
}

absl::Status SimGuest::Destroy() {
  EndAs(DomainEnd::kVanished);
  return absl::OkStatus();
}

absl::Status SimGuest::Gone() const {
  return ended() ? absl::UnavailableError("simulated: the guest is gone") : absl::OkStatus();
}

absl::Status SimGuest::EnableLogDirty() {
  if (end_ == DomainEnd::kVanished) return Gone();
  logging_ = true;
  log_lost_ = false;
  std::fill(dirty_.begin(), dirty_.end(), 0);
  cleared_at_ = fetched_at_ = step_;
  kept_fetches_.clear();
  return absl::OkStatus();
}

absl::Status SimGuest::FetchAndClearDirty(std::span<uint64_t> bitmap) {
  HAVEN_RETURN_IF_ERROR(FetchDirty(bitmap));
  std::fill(dirty_.begin(), dirty_.end(), 0);
  cleared_at_ = step_;
  return absl::OkStatus();
}

absl::Status SimGuest::FetchDirty(std::span<uint64_t> bitmap) {
  SimGuestWorld& world = group_.world();
  HAVEN_CHECK(logging_);
  if (end_ == DomainEnd::kVanished) return Gone();
  if (world.chances.Happens(SimGuestFault::kFetchFails)) {
    group_.LoseLog();
    return absl::UnavailableError("simulated: the bitmap can not be fetched");
  }
  const bool lost_now = world.chances.Happens(SimGuestFault::kLogLost);
  const bool lost = std::exchange(log_lost_, false) || lost_now;
  if (cleared_at_ < std::exchange(fetched_at_, step_))
    kept_fetches_.push_back({step_, cleared_at_});
  if (lost) {
    group_.LoseLog();
    // On again, and empty.
    std::fill(dirty_.begin(), dirty_.end(), 0);
    cleared_at_ = step_;
    return absl::AbortedError("simulated: log-dirty was taken away");
  }
  for (size_t i = 0; i < dirty_.size(); ++i) bitmap[i] |= dirty_[i];
  return absl::OkStatus();
}

uint64_t SimGuest::FetchedSince(uint64_t step) {
  while (!kept_fetches_.empty() && kept_fetches_.front().step < step) kept_fetches_.pop_front();
  uint64_t since = UINT64_MAX;
  for (const KeptFetch& fetch : kept_fetches_) since = std::min(since, fetch.cleared_at);
  return since;
}

// What has happened to the log between two fetches is only found by the second.
absl::StatusOr<uint64_t> SimGuest::CountDirty() {
  SimGuestWorld& world = group_.world();
  HAVEN_CHECK(logging_);
  if (end_ == DomainEnd::kVanished) return Gone();
  if (world.chances.Happens(SimGuestFault::kFetchFails)) {
    return absl::UnavailableError("simulated: the log can not be looked at");
  }
  if (world.chances.Happens(SimGuestFault::kLogLost)) {
    log_lost_ = true;
    std::fill(dirty_.begin(), dirty_.end(), 0);
  }
  uint64_t pages = 0;
  for (size_t i = 0; i < dirty_.size(); ++i) {
    const uint64_t ram = dirty_[i] & memory_->view().ram_bitmap()[i];
    pages += static_cast<uint64_t>(std::popcount(ram));
  }
  return pages;
}

absl::StatusOr<size_t> SimGuest::CaptureState(std::span<std::byte> out) {
  SimGuestWorld& world = group_.world();
  if (ended()) return Gone();
  if (world.meddler.has_value() && world.meddler->Chance(1, 50)) LetGo();
  HAVEN_CHECK(told_stopped());
  if (!suspended_) return absl::FailedPreconditionError("simulated: the guest goes on");
  if (world.chances.Happens(SimGuestFault::kCaptureFails)) {
    group_.LoseLog();
    return absl::UnavailableError("simulated: the state can not be read");
  }
  const SimState state{group_.copy(), index_, step_, group_.NextCapture(index_)};
  EncodeSimState(state, out);
  world.checks.OnCapture(state, memory_->Hash());
  return kSimStateBytes;
}

void SimGuest::LetGo() {
  if (!suspended_ || ended()) return;
  suspended_ = false;
  let_go_ = true;
  ++group_.world().let_go;
  RunSlice(/*burst=*/false);
}

absl::Status SimGuest::Request() {
  if (ended()) return Gone();
  if (waits_) return absl::OkStatus();
  SimGuestWorld& world = group_.world();
  const uint64_t request = ++suspend_request_;
  if (world.chances.Happens(SimGuestFault::kSuspendIgnored)) return absl::OkStatus();
  world.scheduler.After(world.random.Between(20 * kNsPerUs, 2 * kNsPerMs), [this, request] {
    if (suspend_request_ != request) return;
    suspended_ = true;
    let_go_ = false;
    group_.Wake();
  });
  return absl::OkStatus();
}

SuspendMethod::State SimGuest::Poll() {
  if (ended()) return State::kGone;
  return suspended_ ? State::kSuspended : State::kRunning;
}

absl::Status SimGuest::Resume() {
  if (ended()) return Gone();
  SimGuestWorld& world = group_.world();
  const uint64_t request = ++suspend_request_;
  let_go_ = false;
  if (!suspended_) return absl::OkStatus();
  if (group_.OthersRun(this)) world.suspend_aborted();
  if (world.resume_ns == 0) {
    suspended_ = false;
    return absl::OkStatus();
  }
  world.scheduler.After(world.random.Between(0, world.resume_ns), [this, request] {
    if (suspend_request_ != request) return;
    suspended_ = false;
    group_.Wake();
  });
  return absl::OkStatus();
}

SimGroup::SimGroup(SimGuestWorld& world, CopyId copy, uint32_t guests, std::string owner,
                   std::function<void(const SimPacket&)> released, std::function<void()> wake)
    : world_(world),
      copy_(copy),
      owner_(std::move(owner)),
      released_(std::move(released)),
      wake_(std::move(wake)) {
  for (uint32_t i = 0; i < guests; ++i) guests_.push_back(std::make_unique<SimGuest>(*this, i));
}

bool SimGroup::AllStopped() const {
  return std::all_of(guests_.begin(), guests_.end(),
                     [](const std::unique_ptr<SimGuest>& guest) { return guest->stopped(); });
}

bool SimGroup::AllToldStopped() const {
  return std::all_of(guests_.begin(), guests_.end(),
                     [](const std::unique_ptr<SimGuest>& guest) { return guest->told_stopped(); });
}

bool SimGroup::AnyEnded() const {
  return std::any_of(guests_.begin(), guests_.end(),
                     [](const std::unique_ptr<SimGuest>& guest) { return guest->ended(); });
}

bool SimGroup::AllEnded() const {
  return std::all_of(guests_.begin(), guests_.end(),
                     [](const std::unique_ptr<SimGuest>& guest) { return guest->ended(); });
}

bool SimGroup::AnyVanished() const {
  return std::any_of(guests_.begin(), guests_.end(), [](const std::unique_ptr<SimGuest>& guest) {
    return guest->End() == DomainEnd::kVanished;
  });
}

bool SimGroup::AllVanished() const {
  return std::all_of(guests_.begin(), guests_.end(), [](const std::unique_ptr<SimGuest>& guest) {
    return guest->End() == DomainEnd::kVanished;
  });
}

// Of those that come after it: those before it may have been resumed with it.
bool SimGroup::OthersRun(const SimGuest* guest) const {
  const auto self = std::find_if(guests_.begin(), guests_.end(),
                                 [guest](const auto& one) { return one.get() == guest; });
  return std::any_of(self, guests_.end(),
                     [guest](const auto& one) { return one.get() != guest && !one->stopped(); });
}

void SimGroup::RunSlice() {
  const bool burst = world_.bursts && world_.random.Chance(1, 200);
  for (const std::unique_ptr<SimGuest>& guest : guests_) guest->RunSlice(burst);
}

// To the same place of the page, so that also parts of it are known.
void SimGroup::CopySomething(Random& random, std::byte* to) {
  const GuestMemory& memory = guests_[random.Below(guests_.size())]->memory();
  const size_t at = random.Below(kPageBytes / 256) * 256;
  const size_t bytes = random.Chance(1, 2) ? kPageBytes - at : 256;
  std::memmove(to + at, memory.Page(random.Below(kSimSpecialPage)) + at, bytes);
}

uint64_t SimGroup::NextCapture(uint32_t guest) {
  if (guest == 0) capture_ = world_.next_capture++;
  return capture_;
}

}  // namespace haven
