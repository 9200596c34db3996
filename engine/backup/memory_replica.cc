// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/memory_replica.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/replica/format_error.h"
#include "engine/replica/layout.h"

namespace haven {
namespace {

GuestMemory MakeMemory(const MemoryReplica::Options& options, std::byte* base) {
  std::vector<std::byte*> chunks;
  for (uint64_t first = 0; first < options.pages; first += GuestMemory::kChunkPages) {
    chunks.push_back(base + first * kPageBytes);
  }
  std::vector<uint64_t> ram((options.pages + 63) / 64, ~uint64_t{0});
  if (options.pages % 64 != 0) ram.back() = (uint64_t{1} << options.pages % 64) - 1;
  for (const auto& [first, end] : options.special) {
    for (Gfn gfn = first; gfn < end; ++gfn) ram[gfn / 64] &= ~(uint64_t{1} << gfn % 64);
  }
  return GuestMemory(std::move(chunks), std::move(ram), options.pages);
}

absl::Status WrongPhase(const char* call, MemoryReplica::Phase phase) {
  return absl::InternalError(
      absl::StrCat("memory replica: ", call, " in phase ", static_cast<int>(phase)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryReplica>> MemoryReplica::Create(Options options) {
  constexpr char kWhat[] = "memory replica";
  if (options.pages < 1 || options.pages > kMaxDomainPages) {
    return FieldError(kWhat, "pages", options.pages, "1 ..", kMaxDomainPages);
  }
  for (const auto& [first, end] : options.special) {
    if (first > end || end > options.pages) {
      return FieldError(kWhat, "end of special frames", end, "at most", options.pages);
    }
  }
  if (options.min_state_bytes > options.max_state_bytes) {
    return FieldError(kWhat, "min_state_bytes", options.min_state_bytes, "at most",
                      options.max_state_bytes);
  }
  const size_t bytes = static_cast<size_t>(options.pages) * kPageBytes;
  const int populate = options.prefault ? MAP_POPULATE : MAP_NORESERVE;
  void* base =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | populate, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kWhat, ": ", options.pages, " pages: ", std::strerror(errno)));
  }
  return absl::WrapUnique(new MemoryReplica(options, static_cast<std::byte*>(base)));
}

MemoryReplica::MemoryReplica(const Options& options, std::byte* base)
    : base_(base),
      byte_count_(static_cast<size_t>(options.pages) * kPageBytes),
      min_state_bytes_(options.min_state_bytes),
      max_state_bytes_(options.max_state_bytes),
      memory_(MakeMemory(options, base)) {}

MemoryReplica::~MemoryReplica() { HAVEN_CHECK_EQ(munmap(base_, byte_count_), 0); }

absl::Status MemoryReplica::CheckState(std::span<const std::byte> state) const {
  if (state.size() < min_state_bytes_ || state.size() > max_state_bytes_) {
    return absl::InvalidArgumentError(absl::StrCat("memory replica: state has ", state.size(),
                                                   " bytes, must have ", min_state_bytes_, " .. ",
                                                   max_state_bytes_));
  }
  return absl::OkStatus();
}

absl::Status MemoryReplica::Prepare(std::span<const std::byte> state) {
  if (!prepare_result_.ok()) return prepare_result_;
  if (phase_ != Phase::kWaiting) return WrongPhase("Prepare", phase_);
  if (const absl::Status checked = CheckState(state); !checked.ok()) {
    return absl::InternalError(checked.message());
  }
  prepared_state_.assign(state.begin(), state.end());
  phase_ = Phase::kPrepared;
  return absl::OkStatus();
}

absl::Status MemoryReplica::Outlive() {
  return phase_ == Phase::kPrepared ? absl::OkStatus() : WrongPhase("Outlive", phase_);
}

absl::Status MemoryReplica::Run() {
  if (!run_result_.ok()) return run_result_;
  if (phase_ == Phase::kRunning) return absl::OkStatus();
  if (phase_ != Phase::kPrepared) return WrongPhase("Run", phase_);
  phase_ = Phase::kRunning;
  return absl::OkStatus();
}

absl::Status MemoryReplica::Abandon() {
  if (phase_ == Phase::kRunning) return WrongPhase("Abandon", phase_);
  phase_ = Phase::kAbandoned;
  return absl::OkStatus();
}

}  // namespace haven
