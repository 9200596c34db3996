// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_FOREIGN_MAPPER_H_
#define HAVEN_XEN_BASE_FOREIGN_MAPPER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace haven {

// Maps frames of one domain into this process. One thread.
class ForeignMapper {
 public:
  virtual ~ForeignMapper() = default;

  // Maps `frames` one behind the other at `address`, replacing what is mapped there. `errors` has
  // an entry for each frame: 0, or an errno; after OK a frame with an error is not there, and
  // touching it is SIGBUS. A mapping is taken away as a whole, by munmap(2) of all that one call
  // made. Internal: nothing could be mapped, with errno.
  virtual absl::Status MapAt(std::byte* address, std::span<const uint64_t> frames,
                             std::span<int> errors, bool writable) = 0;
};

// By libxenforeignmemory. Unavailable: this host runs no Xen, or this process may not use it.
absl::StatusOr<std::unique_ptr<ForeignMapper>> OpenForeignMapper(uint32_t domid);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_FOREIGN_MAPPER_H_
