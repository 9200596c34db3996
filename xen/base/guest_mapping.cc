// SPDX-License-Identifier: Apache-2.0
#include "xen/base/guest_mapping.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "xen/base/frame_runs.h"

namespace haven {

absl::StatusOr<std::unique_ptr<GuestMapping>> GuestMapping::Create(
    const std::string& name, std::unique_ptr<ForeignMapper> mapper, std::vector<uint64_t> ram,
    uint64_t frame_count, bool writable) {
  std::unique_ptr<GuestMapping> mapping(new GuestMapping(std::move(mapper)));
  std::vector<std::byte*> chunks;
  for (uint64_t first = 0; first < frame_count; first += GuestMemory::kChunkPages) {
    const uint64_t end = std::min(first + GuestMemory::kChunkPages, frame_count);
    HAVEN_ASSIGN_OR_RETURN(std::byte* const address,
                           mapping->MapChunk(name, ram, first, end, writable));
    chunks.push_back(address);
  }
  mapping->memory_ = GuestMemory(std::move(chunks), std::move(ram), frame_count);
  return mapping;
}

// A room goes at once, with the mappings in it whole: no other thread's memory comes in between.
GuestMapping::~GuestMapping() {
  for (const Room& room : rooms_) munmap(room.address, room.bytes);
}

// nullptr if there is no RAM between the frames.
absl::StatusOr<std::byte*> GuestMapping::MapChunk(const std::string& name,
                                                  const std::vector<uint64_t>& ram, uint64_t first,
                                                  uint64_t end, bool writable) {
  FrameRange run = NextFrameRange(ram, first, end);
  if (run.empty()) return nullptr;
  const size_t bytes = static_cast<size_t>(end - first) * kPageBytes;
  void* const room = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("guest ", name, ": no addresses left for its memory"));
  }
  std::byte* const address = static_cast<std::byte*>(room);
  rooms_.push_back({address, bytes});
  while (!run.empty()) {
    HAVEN_RETURN_IF_ERROR(
        MapRun(name, address + (run.first - first) * kPageBytes, run.first, run.end, writable));
    run = NextFrameRange(ram, run.end, end);
  }
  return address;
}

absl::Status GuestMapping::MapRun(const std::string& name, std::byte* address, uint64_t first,
                                  uint64_t end, bool writable) {
  std::vector<uint64_t> frames(end - first);
  for (size_t i = 0; i < frames.size(); ++i) frames[i] = first + i;
  std::vector<int> errors(frames.size(), 0);
  HAVEN_RETURN_IF_ERROR(mapper_->MapAt(address, frames, errors, writable));
  for (size_t i = 0; i < errors.size(); ++i) {
    if (errors[i] == 0) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "guest %s: frame %#x of its memory can not be mapped: %s. Guests whose memory is paged "
        "out, shared or ballooned can not be protected",
        name, frames[i], std::strerror(errors[i])));
  }
  return absl::OkStatus();
}

}  // namespace haven
