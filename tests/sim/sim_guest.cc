// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_guest.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"

namespace haven {

void EncodeSimState(const SimState& state, std::span<std::byte> out) {
  ByteWriter writer(out.first(kSimStateBytes));
  writer.PutU32(state.copy);
  writer.PutU32(state.guest);
  writer.PutU64(state.step);
  writer.PutU64(state.capture);
  writer.PutZeros(kSimStateBytes - writer.position());
}

SimState DecodeSimState(std::span<const std::byte> in) {
  ByteReader reader(in);
  SimState state;
  state.copy = reader.GetU32();
  state.guest = reader.GetU32();
  state.step = reader.GetU64();
  state.capture = reader.GetU64();
  return state;
}

SimGuestMemory::SimGuestMemory() : storage_(kSimPages * kPageBytes) {
  std::vector<uint64_t> ram((kSimPages + 63) / 64, ~uint64_t{0});
  ram[kSimSpecialPage / 64] &= ~(uint64_t{1} << (kSimSpecialPage % 64));
  ram[(kSimPages - 1) / 64] &= (uint64_t{1} << (kSimPages % 64)) - 1;
  view_ = GuestMemory({storage_.data()}, std::move(ram), kSimPages);
}

uint32_t SimGuestMemory::Hash() const {
  uint32_t crc = 0;
  for (Gfn gfn = 0; gfn < kSimPages; ++gfn) {
    if (view_.IsRam(gfn)) crc = ExtendCrc32c(crc, {view_.Page(gfn), kPageBytes});
  }
  return crc;
}

SimGuest::SimGuest(SimGroup& group, uint32_t index)
    : group_(group),
      index_(index),
      info_{"guest", "00000000-0000-0000-0000-000000000000", ""},
      memory_(std::make_unique<SimGuestMemory>()),
      dirty_(memory_->view().bitmap_words(), 0) {
  info_.name += static_cast<char>('0' + index);
  info_.uuid.back() = static_cast<char>('0' + index);
}

void SimGuest::Adopt(const SimState& state, std::unique_ptr<SimGuestMemory> memory) {
  memory_ = std::move(memory);
  step_ = state.step;
}

void SimGuest::RunSlice(bool burst) {
  if (suspended_) return;
  Random& random = group_.world().random;
  const uint64_t writes = burst ? 60 : random.Below(4);
  for (uint64_t i = 0; i < writes; ++i) {
    const Gfn gfn = random.Below(kSimPages);
    ++step_;
    if (random.Chance(1, 16)) {
      std::memset(memory_->page(gfn), 0, kPageBytes);
    } else {
      StoreLe64(memory_->page(gfn) + random.Below(kPageBytes / 8) * 8, step_ ^ random.Next());
    }
    dirty_[gfn >> 6] |= uint64_t{1} << (gfn & 63);
    if (random.Chance(1, 4)) group_.output().Emit({group_.copy(), index_, step_});
  }
}

absl::Status SimGuest::EnableLogDirty() {
  logging_ = true;
  std::fill(dirty_.begin(), dirty_.end(), 0);
  return absl::OkStatus();
}

absl::Status SimGuest::FetchAndClearDirty(std::span<uint64_t> bitmap) {
  SimGuestWorld& world = group_.world();
  HAVEN_CHECK(logging_);
  if (world.random.Below(1000) < world.faults.fetch_fails) {
    return absl::UnavailableError("simulated: the bitmap can not be fetched");
  }
  const bool lost = world.random.Below(1000) < world.faults.log_lost;
  for (size_t i = 0; i < dirty_.size(); ++i) {
    if (!lost) bitmap[i] |= dirty_[i];
    dirty_[i] = 0;
  }
  return lost ? absl::AbortedError("simulated: log-dirty was taken away") : absl::OkStatus();
}

absl::StatusOr<size_t> SimGuest::CaptureState(std::span<std::byte> out) {
  SimGuestWorld& world = group_.world();
  HAVEN_CHECK(suspended_);
  if (world.random.Below(1000) < world.faults.capture_fails) {
    return absl::UnavailableError("simulated: the state can not be read");
  }
  const SimState state{group_.copy(), index_, step_, group_.NextCapture(index_)};
  EncodeSimState(state, out);
  world.checks.OnCapture(state, memory_->Hash());
  return kSimStateBytes;
}

absl::Status SimGuest::Request() {
  SimGuestWorld& world = group_.world();
  const uint64_t request = ++suspend_request_;
  if (world.random.Below(1000) < world.faults.suspend_ignored) return absl::OkStatus();
  world.scheduler.After(world.random.Between(20 * kNsPerUs, 2 * kNsPerMs), [this, request] {
    if (suspend_request_ != request) return;
    suspended_ = true;
    group_.Wake();
  });
  return absl::OkStatus();
}

absl::Status SimGuest::Resume() {
  ++suspend_request_;
  suspended_ = false;
  return absl::OkStatus();
}

absl::Status SimOutput::MayFail() {
  SimGuestWorld& world = group_.world();
  if (world.random.Below(1000) >= world.faults.output_fails) return absl::OkStatus();
  return absl::UnavailableError("simulated: the qdisc does not answer");
}

void SimOutput::Emit(const SimPacket& packet) {
  if (passing_) return group_.Released(packet);
  queue_.push_back(packet);
  ++current_;
}

void SimOutput::Drain() {
  for (; to_release_ > 0 && !queue_.empty(); --to_release_) {
    const SimPacket packet = queue_.front();
    queue_.pop_front();
    group_.Released(packet);
  }
}

absl::Status SimOutput::Hold() {
  if (absl::Status status = MayFail(); !status.ok()) return status;
  if (!passing_) return absl::OkStatus();
  passing_ = false;
  current_ = last_ = to_release_ = 0;
  return absl::OkStatus();
}

absl::Status SimOutput::Barrier() {
  group_.world().checks.OnBarrier(group_.AllStopped());
  if (absl::Status status = MayFail(); !status.ok()) {
    broken_ = true;
    return status;
  }
  last_ = current_;
  current_ = 0;
  return absl::OkStatus();
}

absl::Status SimOutput::ReleaseOne() {
  if (absl::Status status = MayFail(); !status.ok()) {
    broken_ = true;
    return status;
  }
  to_release_ += last_;
  last_ = 0;
  Drain();
  return absl::OkStatus();
}

absl::Status SimOutput::OpenAll() {
  if (absl::Status status = MayFail(); !status.ok()) return status;
  passing_ = true;
  broken_ = false;
  to_release_ = queue_.size();
  Drain();
  current_ = last_ = to_release_ = 0;
  return absl::OkStatus();
}

absl::Status SimOutput::Rebuild() {
  HAVEN_CHECK(group_.AllStopped());
  if (absl::Status status = MayFail(); !status.ok()) return status;
  to_release_ = queue_.size();
  Drain();
  current_ = last_ = to_release_ = 0;
  broken_ = false;
  return absl::OkStatus();
}

absl::Status SimOutput::Discard() {
  queue_.clear();
  return absl::OkStatus();
}

absl::Status SimOutput::Health() {
  return broken_ ? absl::UnavailableError("simulated: the buffer is in doubt") : absl::OkStatus();
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
                     [](const std::unique_ptr<SimGuest>& guest) { return guest->suspended(); });
}

void SimGroup::RunSlice() {
  const bool burst = world_.random.Chance(1, 200);
  for (const std::unique_ptr<SimGuest>& guest : guests_) guest->RunSlice(burst);
}

uint64_t SimGroup::NextCapture(uint32_t guest) {
  if (guest == 0) capture_ = world_.next_capture++;
  return capture_;
}

absl::Status SimReplica::CheckState(std::span<const std::byte> state) const {
  if (state.size() == kSimStateBytes) return absl::OkStatus();
  return absl::InvalidArgumentError("simulated: a state of the wrong size");
}

absl::Status SimReplica::Prepare(std::span<const std::byte> state) {
  if (world_.random.Below(1000) < world_.faults.prepare_fails) {
    return absl::InternalError("simulated: the context can not be set");
  }
  state_ = DecodeSimState(state);
  return absl::OkStatus();
}

absl::Status SimReplica::Run() {
  if (world_.random.Below(1000) < world_.faults.run_fails) {
    return absl::UnavailableError("simulated: the toolstack does not answer");
  }
  running_ = true;
  return absl::OkStatus();
}

absl::Status SimReplica::Abandon() {
  HAVEN_CHECK(!running_);
  return absl::OkStatus();
}

}  // namespace haven
