// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_machine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/verify.h"

namespace haven {
namespace {

// Stop request of a guest that has ended; those of engines are smaller.
constexpr uint64_t kEndStopId = UINT64_MAX;

constexpr uint64_t kSpecialMagic = 0x68617665'6e737065;

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMachine>> GuestMachine::Create(const SyntheticSpec& spec,
                                                                   bool waiting) {
  std::unique_ptr<GuestMachine> machine(new GuestMachine(spec));
  HAVEN_RETURN_IF_ERROR(machine->Allocate(waiting));
  machine->StampSpecialPages();
  if (!waiting) HAVEN_RETURN_IF_ERROR(machine->Fill());
  for (uint32_t vcpu = 0; vcpu < spec.vcpus; ++vcpu) {
    HAVEN_ASSIGN_OR_RETURN(
        Thread thread,
        Thread::Start("synthetic-vcpu", [raw = machine.get(), vcpu] { raw->RunVcpu(vcpu); }));
    machine->threads_.push_back(std::move(thread));
  }
  return machine;
}

GuestMachine::GuestMachine(const SyntheticSpec& spec) : spec_(spec), layout_(spec) {
  for (uint32_t vcpu = 0; vcpu < spec_.vcpus; ++vcpu) {
    workloads_.emplace_back(spec_, layout_, vcpu);
  }
}

GuestMachine::~GuestMachine() {
  if (run_ != nullptr) run_->Exit();
  threads_.clear();  // Before what they use.
}

absl::Status GuestMachine::Allocate(bool waiting) {
  const std::string name = absl::StrCat("haven-synthetic-", spec_.name);
  HAVEN_ASSIGN_OR_RETURN(memory_fd_, CreateSharedMemory(name, layout_.bytes()));
  HAVEN_ASSIGN_OR_RETURN(memory_map_,
                         MapSharedMemory(memory_fd_, layout_.bytes(), true, "guest memory"));
  HAVEN_ASSIGN_OR_RETURN(memory_read_only_fd_, OpenReadOnly(memory_fd_));
  memory_ = layout_.View(memory_map_.data());

  HAVEN_ASSIGN_OR_RETURN(bitmap_fd_,
                         CreateSharedMemory(absl::StrCat(name, "-log"), layout_.bitmap_bytes()));
  HAVEN_ASSIGN_OR_RETURN(
      bitmap_map_, MapSharedMemory(bitmap_fd_, layout_.bitmap_bytes(), true, "log-dirty bitmap"));
  bitmap_ = {new (bitmap_map_.data()) uint64_t[memory_.bitmap_words()]{}, memory_.bitmap_words()};

  HAVEN_ASSIGN_OR_RETURN(status_fd_, CreateSharedMemory(absl::StrCat(name, "-status"), kPageBytes));
  HAVEN_ASSIGN_OR_RETURN(status_map_, MapSharedMemory(status_fd_, kPageBytes, true, "status page"));
  HAVEN_RETURN_IF_ERROR(ForbidNewWriters(status_fd_));
  status_ = new (status_map_.data()) SyntheticStatusPage{};

  event_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd_) return absl::ErrnoToStatus(errno, "create an eventfd");

  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<PacketSink> sink, OpenPacketSink(spec_.log));
  gate_ = std::make_unique<OutputGate>(spec_, std::move(sink), static_cast<uint32_t>(getpid()));
  run_ = std::make_unique<RunControl>(!waiting, [this](uint64_t id) { OnStopped(id); });
  return absl::OkStatus();
}

absl::Status GuestMachine::Fill() {
  std::vector<Thread> fillers;
  for (uint32_t vcpu = 0; vcpu < spec_.vcpus; ++vcpu) {
    HAVEN_ASSIGN_OR_RETURN(Thread filler, Thread::Start("synthetic-fill", [this, vcpu] {
                             VcpuState& state = state_.vcpus[vcpu];
                             while (state.writes < workloads_[vcpu].fill_writes()) {
                               workloads_[vcpu].Write(memory_, state);
                             }
                             published_writes_[vcpu] = state.writes;
                           }));
    fillers.push_back(std::move(filler));
  }
  return absl::OkStatus();
}

void GuestMachine::Suspend(uint64_t id) {
  HAVEN_CHECK_NE(id, kEndStopId);
  if (end() == DomainEnd::kNone) run_->Stop(id);
}

void GuestMachine::Resume() {
  if (end() != DomainEnd::kNone) return;
  run_->Resume();
  // Afterwards, so that no vCPU can still announce the stop that was taken back.
  status_->suspended_id = 0;
}

uint64_t GuestMachine::EnableLogDirty() {
  ClearLog();
  status_->log_dirty_on = 1;
  return status_->log_dirty_breaks;
}

void GuestMachine::DisableLogDirty() { status_->log_dirty_on = 0; }

void GuestMachine::LoseLogDirty() {
  status_->log_dirty_on = 0;
  status_->log_dirty_breaks.fetch_add(1);
  ClearLog();
}

void GuestMachine::LoseGate() {
  gate_->Lose();
  status_->gate_lost_ns = static_cast<uint64_t>(SystemClock::Get().NowNs());
}

absl::Status GuestMachine::RebuildGate() {
  HAVEN_RETURN_IF_ERROR(gate_->Rebuild());
  status_->gate_lost_ns = 0;
  return absl::OkStatus();
}

absl::Status GuestMachine::RemoveGate() {
  HAVEN_RETURN_IF_ERROR(gate_->Remove());
  status_->gate_lost_ns = 0;
  return absl::OkStatus();
}

absl::Status GuestMachine::Load(const SyntheticState& state) {
  HAVEN_CHECK(run_->stopped());
  HAVEN_RETURN_IF_ERROR(CheckSpecialPages());
  if (spec_.verify) {
    HAVEN_RETURN_IF_ERROR(VerifySyntheticImage(spec_, memory_, state, UnallocatedFrames()));
  }
  state_ = state;
  ++state_.generation;
  for (uint32_t vcpu = 0; vcpu < spec_.vcpus; ++vcpu) {
    published_writes_[vcpu] = state_.vcpus[vcpu].writes;
  }
  gate_->Continue(state_.generation, state_.next_sequence);
  return absl::OkStatus();
}

void GuestMachine::End(DomainEnd reason) {
  HAVEN_CHECK(reason != DomainEnd::kNone);
  if (end() != DomainEnd::kNone) return;
  end_ = reason;
  run_->Stop(kEndStopId);
}

void GuestMachine::PublishState() {
  ++state_.stops;
  state_.next_sequence = gate_->next_sequence();
  const absl::StatusOr<size_t> bytes = EncodeSyntheticState(spec_, state_, status_->state);
  HAVEN_CHECK_OK(bytes);
  status_->state_bytes = *bytes;
}

void GuestMachine::OnStopped(uint64_t id) {
  PublishState();
  if (id == kEndStopId) {
    status_->end = static_cast<uint64_t>(end());
  } else {
    status_->suspended_id = id;
  }
  SignalEvent();
}

void GuestMachine::SignalEvent() {
  const uint64_t one = 1;
  // It can only fail because the counter is full, and then the event is there already.
  if (write(event_fd_.get(), &one, sizeof(one)) < 0) HAVEN_CHECK_EQ(errno, EAGAIN);
}

std::byte* GuestMachine::SpecialPage(uint64_t index) const {
  return memory_map_.data() + (layout_.special_first() + index) * kPageBytes;
}

void GuestMachine::StampSpecialPages() {
  for (uint64_t index = 0; index < SyntheticLayout::kSpecialPages; ++index) {
    StoreLe64(SpecialPage(index), kSpecialMagic + index);
    StoreLe64(SpecialPage(index) + 8, static_cast<uint64_t>(getpid()));
  }
}

absl::Status GuestMachine::CheckSpecialPages() const {
  for (uint64_t index = 0; index < SyntheticLayout::kSpecialPages; ++index) {
    if (LoadLe64(SpecialPage(index)) != kSpecialMagic + index ||
        LoadLe64(SpecialPage(index) + 8) != static_cast<uint64_t>(getpid())) {
      return absl::DataLossError(absl::StrCat("synthetic guest ", spec_.name, ": special frame ",
                                              layout_.special_first() + index,
                                              ", which is not RAM, was written from outside"));
    }
  }
  return absl::OkStatus();
}

std::vector<uint64_t> GuestMachine::UnallocatedFrames() const {
  std::vector<uint64_t> frames(memory_.bitmap_words(), 0);
  const auto page = [](off_t at) { return static_cast<uint64_t>(at) / kPageBytes; };
  off_t at = 0;
  while (static_cast<size_t>(at) < memory_map_.size()) {
    // No data up to the end is ENXIO. Any other failure makes the rest count as data, which is
    // safe.
    off_t data = lseek(memory_fd_.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) data = static_cast<off_t>(memory_map_.size());
    if (data < 0) break;
    for (uint64_t gfn = page(at); gfn < page(data); ++gfn) {
      frames[static_cast<size_t>(gfn / 64)] |= uint64_t{1} << (gfn % 64);
    }
    at = lseek(memory_fd_.get(), data, SEEK_HOLE);
    if (at < 0) break;
  }
  return frames;
}

}  // namespace haven
