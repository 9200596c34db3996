// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/region_memory.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "transport/memory_budget.h"

namespace haven {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Makes every page present now: on the epoch path there is no time for faults, and a device can
// only pin what is there. Unlike touching the pages this reports a shortage instead of a signal.
absl::Status Populate(void* at, size_t bytes) {
  if (madvise(at, bytes, MADV_POPULATE_WRITE) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "MADV_POPULATE_WRITE");
}

}  // namespace

absl::StatusOr<RegionMemory> RegionMemory::Allocate(uint64_t bytes, absl::string_view what) {
  HAVEN_CHECK(bytes > 0 && bytes <= UINT64_MAX - kHugePageBytes) << "bytes=" << bytes;
  const uint64_t visible = RoundUp(bytes, kPageBytes);
  const uint64_t huge = RoundUp(bytes, kHugePageBytes);
  // The mapping reserves its huge pages at once, or fails. A small region would waste most of one.
  void* at = visible < kHugePageBytes ? MAP_FAILED
                                      : mmap(nullptr, huge, PROT_READ | PROT_WRITE,
                                             kAnonymous | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
  if (at == MAP_FAILED) return MapOrdinary(visible, what);
  RegionMemory memory({static_cast<std::byte*>(at), visible}, huge, /*on_huge_pages=*/true);
  // Another NUMA policy or control group may still refuse them.
  if (madvise(at, huge, MADV_DONTFORK) != 0 || !Populate(at, huge).ok()) {
    return MapOrdinary(visible, what);
  }
  return memory;
}

absl::StatusOr<RegionMemory> RegionMemory::MapOrdinary(uint64_t bytes, absl::string_view what) {
  HAVEN_RETURN_IF_ERROR(CheckMemoryFor(bytes, what));
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kAnonymous, -1, 0);
  const auto failed = [&](absl::string_view step) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": ", bytes, " bytes of memory can not be had (",
                     absl::ErrnoToStatus(errno, step).message(),
                     "); give this host more memory, or ask for a smaller region"));
  };
  if (at == MAP_FAILED) return failed("mmap");
  RegionMemory memory({static_cast<std::byte*>(at), bytes}, bytes, /*on_huge_pages=*/false);
  // Transparent huge pages are a favour: without them the region works as well.
  static_cast<void>(madvise(at, bytes, MADV_HUGEPAGE));
  if (madvise(at, bytes, MADV_DONTFORK) != 0) return failed("MADV_DONTFORK");
  if (!Populate(at, bytes).ok()) return failed("MADV_POPULATE_WRITE");
  return memory;
}

RegionMemory::RegionMemory(RegionMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})),
      mapped_bytes_(other.mapped_bytes_),
      on_huge_pages_(other.on_huge_pages_) {}

RegionMemory& RegionMemory::operator=(RegionMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(on_huge_pages_, other.on_huge_pages_);
  return *this;
}

RegionMemory::~RegionMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), mapped_bytes_);
}

}  // namespace haven
