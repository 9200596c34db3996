// SPDX-License-Identifier: Apache-2.0
#include "engine/control/control_testing.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/random.h"
#include "engine/base/status_macros.h"
#include "engine/control/time_limit.h"
#include "engine/membership/arbiter_rules.h"
#include "engine/primary/dirty_words.h"

namespace haven {

bool WaitFor(const std::function<bool()>& done) {
  const TimeLimit limit(kTestPatience);
  while (!done()) {
    if (limit.Passed()) return false;
    poll(nullptr, 0, 1);
  }
  return true;
}

TestPages::TestPages(uint64_t pages) {
  const size_t bytes = static_cast<size_t>(pages) * kPageBytes;
  block_.reset(std::aligned_alloc(kPageBytes, bytes));
  HAVEN_CHECK(block_ != nullptr);
  std::memset(block_.get(), 0, bytes);
  std::vector<std::byte*> chunks;
  for (uint64_t first = 0; first < pages; first += GuestMemory::kChunkPages) {
    chunks.push_back(static_cast<std::byte*>(block_.get()) + first * kPageBytes);
  }
  std::vector<uint64_t> ram(static_cast<size_t>((pages + 63) / 64), 0);
  for (uint64_t gfn = 0; gfn < pages; ++gfn) ram[gfn / 64] |= uint64_t{1} << (gfn % 64);
  memory_ = GuestMemory(std::move(chunks), std::move(ram), pages);
}

void ApplyTestStep(const GuestMemory& memory, uint64_t step, std::vector<uint64_t>* dirty) {
  Random random(step);
  for (uint64_t i = 0; i < kTestPagesPerStep; ++i) {
    const Gfn gfn = random.Below(memory.page_count());
    std::byte* page = memory.Page(gfn);
    std::memcpy(page + random.Below(kPageBytes / sizeof(step)) * sizeof(step), &step, sizeof(step));
    if (dirty != nullptr) (*dirty)[gfn / 64] |= uint64_t{1} << (gfn % 64);
  }
}

bool IsTestStep(const GuestMemory& memory, uint64_t step) {
  const TestPages model(memory.page_count());
  for (uint64_t done = 1; done <= step; ++done) ApplyTestStep(model.memory(), done, nullptr);
  for (Gfn gfn = 0; gfn < memory.page_count(); ++gfn) {
    if (std::memcmp(memory.Page(gfn), model.memory().Page(gfn), kPageBytes) != 0) return false;
  }
  return true;
}

TestGuest::TestGuest(std::string name, uint64_t pages, TestWire& wire)
    : pages_(pages), wire_(wire), dirty_(pages_.memory().bitmap_words(), 0) {
  const uint64_t hash = std::hash<std::string>()(name) & 0xffffffffffff;
  info_.name = std::move(name);
  info_.uuid = absl::StrFormat("00000000-0000-4000-8000-%012x", hash);
  info_.config = "test";
}

void TestGuest::Step() {
  ++step_;
  ApplyTestStep(pages_.memory(), step_, &dirty_);
  held_.push_back(step_);
  wire_.sent.store(step_);
  if (!holding_) Release(held_.size());
}

void TestGuest::Release(size_t packets) {
  for (size_t i = 0; i < packets; ++i) {
    wire_.released.store(held_.front());
    held_.pop_front();
    ++released_;
  }
}

absl::Status TestGuest::EnableLogDirty() {
  logging_ = true;
  std::fill(dirty_.begin(), dirty_.end(), 0);
  return absl::OkStatus();
}

absl::Status TestGuest::FetchAndClearDirty(std::span<uint64_t> bitmap) {
  HAVEN_CHECK(logging_);
  HAVEN_RETURN_IF_ERROR(CheckMemory());
  MoveDirtyLog(dirty_, bitmap);
  ++fetches_;
  return absl::OkStatus();
}

absl::Status TestGuest::FetchDirty(std::span<uint64_t> bitmap) {
  HAVEN_CHECK(logging_);
  HAVEN_RETURN_IF_ERROR(CheckMemory());
  MergeDirtyLog(dirty_, bitmap);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> TestGuest::CountDirty() {
  HAVEN_CHECK(logging_);
  return CountSet(dirty_);
}

absl::Status TestGuest::CheckMemory() {
  if (!changed_) return absl::OkStatus();
  return absl::FailedPreconditionError("its memory has changed");
}

absl::Status TestGuest::CheckDevices() {
  if (!plugged_) return absl::OkStatus();
  return absl::FailedPreconditionError("its devices have changed");
}

absl::StatusOr<size_t> TestGuest::CaptureState(std::span<std::byte> out) {
  HAVEN_CHECK(!running_);
  std::memcpy(out.data(), &step_, sizeof(step_));
  running_ = broken_;
  return sizeof(step_);
}

DomainEnd TestGuest::End() {
  if (running_) Step();
  return DomainEnd::kNone;
}

absl::Status TestGuest::Request() {
  running_ = false;
  return absl::OkStatus();
}

SuspendMethod::State TestGuest::Poll() {
  return running_ ? SuspendMethod::State::kRunning : SuspendMethod::State::kSuspended;
}

absl::Status TestGuest::Resume() {
  running_ = true;
  Step();
  return absl::OkStatus();
}

absl::Status TestGuest::Prepare() {
  prepared_ = true;
  return absl::OkStatus();
}

absl::Status TestGuest::Hold() {
  HAVEN_CHECK(prepared_);
  holding_ = true;
  return absl::OkStatus();
}

absl::Status TestGuest::Barrier() {
  HAVEN_CHECK(holding_ && !mark_.has_value());
  mark_ = held_.size();
  return absl::OkStatus();
}

absl::Status TestGuest::ReleaseOne() {
  Release(mark_.value_or(0));
  mark_.reset();
  return absl::OkStatus();
}

absl::Status TestGuest::OpenAll() {
  holding_ = false;
  broken_ = false;
  mark_.reset();
  Release(held_.size());
  return absl::OkStatus();
}

absl::Status TestGuest::Health() {
  return broken_ ? absl::FailedPreconditionError("somebody tampers with it") : absl::OkStatus();
}

absl::Status TestGuest::Rebuild() {
  HAVEN_CHECK(!running_);
  return absl::OkStatus();
}

OutputStats TestGuest::stats() {
  return {.held_packets = held_.size(), .held_bytes = 0, .released_packets = released_};
}

absl::StatusOr<std::unique_ptr<ReplicaDomain>> TestReplicaFactory::Build(
    const HelloDomain& domain) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!result_.ok()) return result_;
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<MemoryReplica> replica,
                         MemoryReplica::Create({.pages = domain.page_count,
                                                .max_state_bytes = domain.max_state_bytes}));
  replica->set_run_result(run_result_);
  return replica;
}

void TestReplicaFactory::set_run_result(absl::Status result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  run_result_ = std::move(result);
}

void TestReplicaFactory::set_result(absl::Status result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  result_ = std::move(result);
}

uint64_t PromotedStep(const ReplicaDomain& replica) {
  const auto& copy = dynamic_cast<const MemoryReplica&>(replica);
  HAVEN_CHECK(copy.phase() == MemoryReplica::Phase::kRunning);
  uint64_t step = 0;
  HAVEN_CHECK_EQ(copy.prepared_state().size(), sizeof(step));
  std::memcpy(&step, copy.prepared_state().data(), sizeof(step));
  return step;
}

RegisterAnswer TestArbiter::Read(absl::string_view group, absl::Duration) {
  if (silent_) return UnknownAnswer(Describe(), group, absl::UnavailableError("silent"));
  return GrantedAnswer(value(std::string(group)));
}

RegisterAnswer TestArbiter::CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                          absl::Duration) {
  if (silent_) return UnknownAnswer(Describe(), group, absl::UnavailableError("silent"));
  const std::lock_guard<std::mutex> lock(mutex_);
  HAVEN_CHECK_OK(ValidateRequest(request));
  const auto found = registers_.find(std::string(group));
  const std::optional<Register> current =
      found == registers_.end() ? std::nullopt : std::optional<Register>(found->second);
  switch (*DecideChange(current, request)) {
    case ChangeStep::kWrite:
      registers_[std::string(group)] = request.desired;
      return GrantedAnswer(request.desired);
    case ChangeStep::kGranted:
      return GrantedAnswer(current);
    case ChangeStep::kDenied:
      return DeniedAnswer(current);
  }
  return DeniedAnswer(current);
}

std::optional<Register> TestArbiter::value(const std::string& group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = registers_.find(group);
  if (found == registers_.end()) return std::nullopt;
  return found->second;
}

}  // namespace haven
