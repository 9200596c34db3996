// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/output_gate.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"

namespace haven {

OutputGate::OutputGate(const SyntheticSpec& spec, std::unique_ptr<PacketSink> sink, uint32_t pid)
    : name_(spec.name),
      pid_(pid),
      sink_(std::move(sink)),
      queue_(spec.gate_bytes, spec.packet_bytes) {
  batch_.reserve(PacketSink::kBatch);
}

void OutputGate::Emit(uint32_t vcpu, uint64_t writes) {
  const std::lock_guard lock(mutex_);
  SyntheticPacket packet;
  packet.sequence = next_sequence_++;
  packet.generation = generation_;
  packet.vcpu = vcpu;
  packet.writes = writes;
  packet.emitted_ns = SystemClock::Get().NowNs();
  packet.pid = pid_;
  switch (mode_) {
    case GateMode::kAbsent:
      batch_.push_back(packet);
      SendBatch();
      return;
    case GateMode::kDiscarded:
      ++dropped_packets_;
      return;
    case GateMode::kHolding:
    case GateMode::kOpen:
      if (!queue_.Enqueue(packet)) ++dropped_packets_;
      Drain();
      return;
  }
}

absl::Status OutputGate::CheckInstalled(const char* command) const {
  if (mode_ == GateMode::kHolding || mode_ == GateMode::kOpen) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("synthetic guest ", name_, ": ", command,
                                                    " on an output buffer that is ",
                                                    GateModeName(mode_)));
}

absl::Status OutputGate::Hold() {
  const std::lock_guard lock(mutex_);
  switch (mode_) {
    case GateMode::kHolding:
      return absl::OkStatus();
    case GateMode::kAbsent:
      queue_.Clear();
      mode_ = GateMode::kHolding;
      return absl::OkStatus();
    case GateMode::kOpen:
      // The queue is empty and nothing is counted: the command only ends the pass-through.
      queue_.Buffer();
      mode_ = GateMode::kHolding;
      return absl::OkStatus();
    case GateMode::kDiscarded:
      break;
  }
  return CheckInstalled("Hold");
}

absl::Status OutputGate::Barrier() {
  const std::lock_guard lock(mutex_);
  HAVEN_RETURN_IF_ERROR(CheckInstalled("Barrier"));
  queue_.Buffer();
  mode_ = GateMode::kHolding;
  return absl::OkStatus();
}

absl::Status OutputGate::ReleaseOne() {
  const std::lock_guard lock(mutex_);
  HAVEN_RETURN_IF_ERROR(CheckInstalled("ReleaseOne"));
  queue_.ReleaseOne();
  Drain();
  return absl::OkStatus();
}

absl::Status OutputGate::OpenAll() {
  const std::lock_guard lock(mutex_);
  if (mode_ == GateMode::kAbsent) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(CheckInstalled("OpenAll"));
  queue_.ReleaseAll();
  mode_ = GateMode::kOpen;
  Drain();
  return absl::OkStatus();
}

absl::Status OutputGate::Rebuild() {
  const std::lock_guard lock(mutex_);
  if (mode_ == GateMode::kDiscarded) return CheckInstalled("Rebuild");
  queue_.ReleaseAll();
  Drain();
  queue_.Clear();
  mode_ = GateMode::kHolding;
  return absl::OkStatus();
}

absl::Status OutputGate::Discard() {
  const std::lock_guard lock(mutex_);
  dropped_packets_ += queue_.packets();
  queue_.Clear();
  mode_ = GateMode::kDiscarded;
  return absl::OkStatus();
}

absl::Status OutputGate::Remove() {
  const std::lock_guard lock(mutex_);
  if (mode_ == GateMode::kAbsent) return absl::OkStatus();
  if (mode_ != GateMode::kOpen) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", name_, ": Remove on an output buffer that is ",
                     GateModeName(mode_), "; it must be opened first"));
  }
  mode_ = GateMode::kAbsent;
  return absl::OkStatus();
}

void OutputGate::Lose() {
  const std::lock_guard lock(mutex_);
  if (mode_ != GateMode::kHolding && mode_ != GateMode::kOpen) return;
  queue_.ReleaseAll();
  Drain();
  mode_ = GateMode::kAbsent;
}

GateMode OutputGate::mode() const {
  const std::lock_guard lock(mutex_);
  return mode_;
}

OutputStats OutputGate::stats() const {
  const std::lock_guard lock(mutex_);
  OutputStats stats;
  stats.held_packets = queue_.packets();
  stats.held_bytes = queue_.bytes();
  stats.released_packets = released_packets_;
  stats.dropped_packets = dropped_packets_;
  return stats;
}

void OutputGate::Continue(uint32_t generation, uint64_t next_sequence) {
  const std::lock_guard lock(mutex_);
  generation_ = generation;
  next_sequence_ = next_sequence;
}

void OutputGate::Drain() {
  while (const std::optional<SyntheticPacket> packet = queue_.Dequeue()) {
    batch_.push_back(*packet);
    if (batch_.size() == PacketSink::kBatch) SendBatch();
  }
  SendBatch();
}

void OutputGate::SendBatch() {
  if (batch_.empty()) return;
  const int64_t now_ns = SystemClock::Get().NowNs();
  for (SyntheticPacket& packet : batch_) packet.released_ns = now_ns;
  const size_t lost = sink_->Send(batch_);
  released_packets_ += batch_.size() - lost;
  dropped_packets_ += lost;
  batch_.clear();
}

const char* GateModeName(GateMode mode) {
  switch (mode) {
    case GateMode::kAbsent:
      return "absent";
    case GateMode::kHolding:
      return "holding";
    case GateMode::kOpen:
      return "open";
    case GateMode::kDiscarded:
      return "discarded";
  }
  return "unknown";
}

}  // namespace haven
