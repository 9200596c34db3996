// SPDX-License-Identifier: Apache-2.0
//
// A guest in plain memory, and a replica that applies what the chunks say: for tests and
// benchmarks.
#ifndef HAVEN_ENGINE_PRIMARY_TEST_DOMAIN_H_
#define HAVEN_ENGINE_PRIMARY_TEST_DOMAIN_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/primary/dirty_words.h"
#include "engine/primary/domain.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// Page-aligned memory that is zero and takes no room until it is touched, in separate pieces of one
// chunk of GuestMemory each, so that whatever crosses the end of a chunk is noticed.
class TestMemory {
 public:
  // All frames are RAM, except those whose bit in `not_ram` is set (which may be shorter or empty).
  explicit TestMemory(uint64_t pages, const std::vector<uint64_t>& not_ram = {}) {
    std::vector<std::byte*> chunks;
    for (uint64_t first = 0; first < pages; first += GuestMemory::kChunkPages) {
      const size_t bytes =
          static_cast<size_t>(std::min(pages - first, GuestMemory::kChunkPages)) * kPageBytes;
      pieces_.emplace_back(std::aligned_alloc(kPageBytes, bytes));
      std::memset(pieces_.back().get(), 0, bytes);
      chunks.push_back(static_cast<std::byte*>(pieces_.back().get()));
    }
    // Bits beyond the last frame are set on purpose: they mean nothing.
    std::vector<uint64_t> ram(static_cast<size_t>((pages + 63) / 64), ~uint64_t{0});
    for (size_t i = 0; i < std::min(ram.size(), not_ram.size()); ++i) ram[i] &= ~not_ram[i];
    memory_ = GuestMemory(std::move(chunks), std::move(ram), pages);
  }

  const GuestMemory& memory() const { return memory_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  std::vector<std::unique_ptr<void, Free>> pieces_;
  GuestMemory memory_;
};

// Tracks its writes like a hypervisor's log-dirty mode. Errors are injected by the public members.
class TestDomain : public Domain {
 public:
  TestDomain(std::string name, uint64_t pages, size_t max_state_bytes,
             const std::vector<uint64_t>& not_ram = {})
      : memory_(pages, not_ram),
        log_(memory_.memory().bitmap_words()),
        state(max_state_bytes, std::byte{1}) {
    info_.name = std::move(name);
  }

  // Fills a page with one value (0: a zero page) but for its first bytes, which hold `value` too,
  // and logs it as dirty.
  void WritePage(Gfn gfn, uint64_t value) {
    std::byte* page = memory().Page(gfn);
    std::memset(page, static_cast<int>(value & 0xff), kPageBytes);
    std::memcpy(page, &value, sizeof(value));
    log_[gfn / 64] |= uint64_t{1} << (gfn % 64);
  }

  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return memory_.memory(); }
  absl::Status EnableLogDirty() override { return absl::OkStatus(); }
  void DisableLogDirty() override {}

  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    if (!fetch_status.ok()) {
      if (absl::IsAborted(fetch_status)) std::fill(log_.begin(), log_.end(), 0);
      return std::exchange(fetch_status, absl::OkStatus());
    }
    for (size_t i = 0; i < bitmap.size(); ++i) bitmap[i] |= std::exchange(log_[i], 0);
    return absl::OkStatus();
  }

  absl::Status FetchDirty(std::span<uint64_t> bitmap) override {
    for (size_t i = 0; i < bitmap.size(); ++i) bitmap[i] |= log_[i];
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> CountDirty() override { return CountSet(log_); }

  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    if (!capture_status.ok()) return std::exchange(capture_status, absl::OkStatus());
    std::copy(state.begin(), state.end(), out.begin());
    return state.size();
  }

  size_t max_state_bytes() const override { return max_state_bytes_; }
  DomainEnd End() override { return DomainEnd::kNone; }
  absl::Status Destroy() override { return absl::OkStatus(); }

 private:
  TestMemory memory_;
  std::vector<uint64_t> log_;
  DomainInfo info_;

 public:
  std::vector<std::byte> state;  // What CaptureState returns; at most as large as at first.
  absl::Status fetch_status;     // Returned by the next fetch; Aborted loses the log.
  absl::Status capture_status;   // Returned by the next capture of state.

 private:
  const size_t max_state_bytes_ = state.size();
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_TEST_DOMAIN_H_
