// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_GUEST_MAPPING_H_
#define HAVEN_XEN_BASE_GUEST_MAPPING_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/replica/guest_memory.h"
#include "xen/base/foreign_mapper.h"

namespace haven {

// All RAM of one domain, mapped once. The addresses of a chunk (GuestMemory::kChunkPages frames)
// lie together; in it each run of RAM is one mapping, and what is not RAM is no memory at all.
class GuestMapping {
 public:
  // `ram` has one bit for each of `frame_count` frames, `name` is for messages.
  // FailedPrecondition names the first RAM frame that could not be mapped, with its error;
  // ResourceExhausted: no addresses left; else errors of the mapper. Then nothing stays mapped.
  static absl::StatusOr<std::unique_ptr<GuestMapping>> Create(const std::string& name,
                                                              std::unique_ptr<ForeignMapper> mapper,
                                                              std::vector<uint64_t> ram,
                                                              uint64_t frame_count, bool writable);

  // Nobody uses memory() any more.
  ~GuestMapping();
  GuestMapping(const GuestMapping&) = delete;
  GuestMapping& operator=(const GuestMapping&) = delete;

  const GuestMemory& memory() const { return memory_; }

 private:
  // Addresses that are ours, with whatever is mapped there.
  struct Room {
    std::byte* address;
    size_t bytes;
  };

  explicit GuestMapping(std::unique_ptr<ForeignMapper> mapper) : mapper_(std::move(mapper)) {}
  absl::StatusOr<std::byte*> MapChunk(const std::string& name, const std::vector<uint64_t>& ram,
                                      uint64_t first, uint64_t end, bool writable);
  absl::Status MapRun(const std::string& name, std::byte* address, uint64_t first, uint64_t end,
                      bool writable);

  const std::unique_ptr<ForeignMapper> mapper_;
  std::vector<Room> rooms_;
  GuestMemory memory_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_GUEST_MAPPING_H_
