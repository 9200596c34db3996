// SPDX-License-Identifier: Apache-2.0
//
// A guest for benchmarks: memory of any size, of which only the dirty pages are ever touched.
#ifndef HAVEN_BENCH_BENCH_GUEST_H_
#define HAVEN_BENCH_BENCH_GUEST_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/check.h"
#include "engine/base/random.h"
#include "engine/primary/dirty_words.h"
#include "engine/primary/domain.h"
#include "engine/replica/guest_memory.h"

namespace haven {

// Anonymous memory that takes room only where it is written, on huge pages where the system gives
// them.
class BenchMemory {
 public:
  explicit BenchMemory(uint64_t bytes) : bytes_(bytes) {
    void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HAVEN_CHECK(mapped != MAP_FAILED) << "bytes=" << bytes_;
    data_ = static_cast<std::byte*>(mapped);
  }
  ~BenchMemory() { munmap(data_, bytes_); }
  BenchMemory(const BenchMemory&) = delete;
  BenchMemory& operator=(const BenchMemory&) = delete;

  // Makes the whole of it present, as registered memory is.
  void Prefault() {
    madvise(data_, bytes_, MADV_HUGEPAGE);
    std::memset(data_, 0, bytes_);
  }

  std::byte* data() const { return data_; }
  std::span<std::byte> bytes() const { return {data_, bytes_}; }

 private:
  uint64_t bytes_;
  std::byte* data_ = nullptr;
};

// `count` frames of `pages` in ascending order, in runs of `run` adjacent frames evenly spread with
// some chance. `count` is a multiple of `run`.
inline std::vector<Gfn> SpreadFrames(uint64_t pages, uint64_t count, uint64_t run) {
  std::vector<Gfn> frames;
  if (count == 0) return frames;
  Random random(1);
  const uint64_t stride = pages / (count / run);
  HAVEN_CHECK_GE(stride, run);
  for (uint64_t i = 0; i < count / run; ++i) {
    const Gfn first = i * stride + (stride > run ? random.Below(stride - run) : 0);
    for (uint64_t j = 0; j < run; ++j) frames.push_back(first + j);
  }
  return frames;
}

// Dirties the same pages again and again, without writing them.
class BenchGuest : public Domain {
 public:
  // `frames` are made present and filled with bytes that are not zero, but for each `zero_every`-th
  // (0: none).
  BenchGuest(uint64_t pages, std::vector<Gfn> frames, size_t state_bytes, uint64_t zero_every = 0)
      : mapping_(pages * kPageBytes),
        memory_(Chunks(mapping_, pages),
                std::vector<uint64_t>(static_cast<size_t>((pages + 63) / 64), ~uint64_t{0}), pages),
        frames_(std::move(frames)),
        log_(memory_.bitmap_words()),
        state_(state_bytes, std::byte{1}) {
    Random random(2);
    uint64_t number = 0;
    for (const Gfn gfn : frames_) {
      if (zero_every > 0 && ++number % zero_every == 0) {
        std::memset(memory_.Page(gfn), 0, kPageBytes);
      } else {
        random.Fill({memory_.Page(gfn), kPageBytes});
      }
    }
  }

  void DirtyFrames() {
    for (const Gfn gfn : frames_) MarkDirty(gfn);
  }
  void MarkDirty(Gfn gfn) { log_[gfn / 64] |= uint64_t{1} << (gfn % 64); }
  void DirtyAll() { std::fill(log_.begin(), log_.end(), ~uint64_t{0}); }
  const std::vector<Gfn>& frames() const { return frames_; }

  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return memory_; }
  absl::Status EnableLogDirty() override { return absl::OkStatus(); }
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    MoveDirtyLog(log_, bitmap);
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> CountDirty() override { return CountSet(log_); }
  void DisableLogDirty() override {}
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    std::copy(state_.begin(), state_.end(), out.begin());
    return state_.size();
  }
  size_t max_state_bytes() const override { return state_.size(); }
  DomainEnd End() override { return DomainEnd::kNone; }
  absl::Status Destroy() override { return absl::OkStatus(); }

 private:
  static std::vector<std::byte*> Chunks(const BenchMemory& mapping, uint64_t pages) {
    std::vector<std::byte*> chunks;
    for (uint64_t first = 0; first < pages; first += GuestMemory::kChunkPages) {
      chunks.push_back(mapping.data() + first * kPageBytes);
    }
    return chunks;
  }

  BenchMemory mapping_;
  GuestMemory memory_;
  std::vector<Gfn> frames_;
  std::vector<uint64_t> log_;
  std::vector<std::byte> state_;
  DomainInfo info_;
};

}  // namespace haven

#endif  // HAVEN_BENCH_BENCH_GUEST_H_
