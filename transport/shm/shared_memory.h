// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_SHARED_MEMORY_H_
#define HAVEN_TRANSPORT_SHM_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"

namespace haven {

// Largest region in bytes; a quarter of the x86-64 user address space.
inline constexpr uint64_t kMaxSharedBytes = uint64_t{1} << 45;

// Memory shared with another process by descriptor (memfd_create(2)): it has no name in any file
// system and goes away with its last user. Its size is sealed, so that no access to the mapping can
// raise SIGBUS because the other side has cut it. Prefaulted and writable; neither inherited by
// children (MADV_DONTFORK) nor part of core dumps, for it holds guest memory. Movable.
class SharedMemory {
 public:
  // New memory, zero, of `bytes` rounded up to whole pages; from 2 MiB on in huge pages where the
  // host has them reserved. `what` is for messages. ResourceExhausted: too little memory or
  // descriptors, found before anything is taken; InvalidArgument: 0 or beyond kMaxSharedBytes.
  static absl::StatusOr<SharedMemory> Create(absl::string_view what, uint64_t bytes);

  // Maps memory that another process made by Create with the same `bytes`. The claim is checked
  // before anything is mapped: InvalidArgument if `fd` is no memfd, lacks a seal, has another size,
  // is not fully allocated (mapping it would take our memory) or can not be written.
  static absl::StatusOr<SharedMemory> Import(absl::string_view what, UniqueFd fd, uint64_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  // Page-aligned; `bytes` of Create, rounded up to 4 KiB pages.
  std::span<std::byte> bytes() const { return mapping_.first(usable_bytes_); }
  int fd() const { return fd_.get(); }
  // True if `fd` refers to this very memory.
  bool IsBackedBy(int fd) const;

 private:
  SharedMemory(UniqueFd fd, std::span<std::byte> mapping, size_t usable_bytes);

  static absl::StatusOr<SharedMemory> CreateIn(absl::string_view what, uint64_t bytes,
                                               uint64_t page_bytes, unsigned flags);
  static absl::StatusOr<SharedMemory> Map(absl::string_view what, UniqueFd fd,
                                          uint64_t usable_bytes, uint64_t file_bytes);

  UniqueFd fd_;
  std::span<std::byte> mapping_;
  size_t usable_bytes_;
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_SHARED_MEMORY_H_
