// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_REGION_MEMORY_H_
#define HAVEN_TRANSPORT_VERBS_REGION_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// The memory of a region: zero, present in full, on huge pages if the host has them set aside (else
// the kernel is asked for transparent ones), not inherited by children. Movable, not copyable.
class RegionMemory {
 public:
  // `bytes`, at least one, is rounded up to pages. ResourceExhausted: the host has not enough, with
  // what to do; `what` names it in the message.
  static absl::StatusOr<RegionMemory> Allocate(uint64_t bytes, absl::string_view what);

  RegionMemory(RegionMemory&& other) noexcept;
  RegionMemory& operator=(RegionMemory&& other) noexcept;
  ~RegionMemory();

  std::span<std::byte> bytes() const { return bytes_; }
  // Set aside by the administrator (vm.nr_hugepages).
  bool on_huge_pages() const { return on_huge_pages_; }

 private:
  RegionMemory(std::span<std::byte> bytes, size_t mapped_bytes, bool on_huge_pages)
      : bytes_(bytes), mapped_bytes_(mapped_bytes), on_huge_pages_(on_huge_pages) {}
  static absl::StatusOr<RegionMemory> MapOrdinary(uint64_t bytes, absl::string_view what);

  std::span<std::byte> bytes_;
  size_t mapped_bytes_;
  bool on_huge_pages_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_REGION_MEMORY_H_
