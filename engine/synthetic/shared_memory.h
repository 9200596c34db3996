// SPDX-License-Identifier: Apache-2.0
//
// Anonymous memory that two processes share by passing its descriptor.
#ifndef HAVEN_ENGINE_SYNTHETIC_SHARED_MEMORY_H_
#define HAVEN_ENGINE_SYNTHETIC_SHARED_MEMORY_H_

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/fd.h"

namespace haven {

// Owns one mapping and unmaps it. Movable, not copyable.
class MappedMemory {
 public:
  MappedMemory() = default;
  explicit MappedMemory(std::span<std::byte> bytes) : bytes_(bytes) {}
  ~MappedMemory() { Unmap(); }

  MappedMemory(MappedMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    if (this != &other) {
      Unmap();
      bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
  }

  std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }

 private:
  void Unmap();

  std::span<std::byte> bytes_;
};

// A memfd of `bytes` bytes, zero and not yet allocated, whose size can never change again: whoever
// maps it can not be made to fault beyond its end. ResourceExhausted: descriptors or memory ran
// out.
absl::StatusOr<UniqueFd> CreateSharedMemory(const std::string& name, size_t bytes);

// Maps the whole of `fd`. InvalidArgument: it is no sealed memfd of exactly `bytes` bytes (`what`
// names it in the message). ResourceExhausted: no room in the address space.
absl::StatusOr<MappedMemory> MapSharedMemory(const UniqueFd& fd, size_t bytes, bool writable,
                                             absl::string_view what);

// From here on nobody can make a new writable mapping of `fd`; those that exist stay writable.
absl::Status ForbidNewWriters(const UniqueFd& fd);

// A second descriptor of the same memory that can only be read and mapped for reading.
absl::StatusOr<UniqueFd> OpenReadOnly(const UniqueFd& fd);

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_SHARED_MEMORY_H_
