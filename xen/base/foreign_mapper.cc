// SPDX-License-Identifier: Apache-2.0
#include "xen/base/foreign_mapper.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "xen/base/libxc.h"

namespace haven {

namespace {

struct CloseForeignMemory {
  void operator()(xenforeignmemory_handle* handle) const { xenforeignmemory_close(handle); }
};
using Handle = std::unique_ptr<xenforeignmemory_handle, CloseForeignMemory>;

class PrivcmdMapper final : public ForeignMapper {
 public:
  PrivcmdMapper(Handle handle, uint32_t domid) : handle_(std::move(handle)), domid_(domid) {}

  absl::Status MapAt(std::byte* address, std::span<const uint64_t> frames, std::span<int> errors,
                     bool writable) override {
    static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t));
    HAVEN_CHECK_EQ(frames.size(), errors.size());
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    if (xenforeignmemory_map2(handle_.get(), domid_, address, protection, MAP_FIXED, frames.size(),
                              frames.data(), errors.data()) == nullptr) {
      return absl::InternalError(absl::StrCat("domain ", domid_, ": can not map ", frames.size(),
                                              " frames: ", std::strerror(errno)));
    }
    return absl::OkStatus();
  }

 private:
  const Handle handle_;
  const uint32_t domid_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ForeignMapper>> OpenForeignMapper(uint32_t domid) {
  Handle handle(xenforeignmemory_open(nullptr, 0));
  if (handle == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("the memory of guests can not be mapped: ", std::strerror(errno)));
  }
  return std::make_unique<PrivcmdMapper>(std::move(handle), domid);
}

}  // namespace haven
