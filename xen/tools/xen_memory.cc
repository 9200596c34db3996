// SPDX-License-Identifier: Apache-2.0
//
// Says what lies in a guest's memory, to be compared with that of its copy on another host:
//
//   xen_memory GUEST FILE
//
// Writes a line for every RAM frame, its number and the CRC32C of its page, both in hexadecimal.
// The guest is not stopped, nor is anything of it changed. Exits with 0, or 1 and the reason.
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "xen/base/foreign_mapper.h"
#include "xen/base/guest_mapping.h"
#include "xen/base/ram_map.h"
#include "xen/base/xc_domain_control.h"
#include "xen/primary/attach.h"

namespace haven {
namespace {

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};

absl::Status Write(const std::string& name, const char* path) {
  HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(name));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<XenDomainControl> control, OpenXenDomain(domid));
  HAVEN_ASSIGN_OR_RETURN(const RamMap map, ReadRamMap(*control));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ForeignMapper> mapper, OpenForeignMapper(domid));
  HAVEN_ASSIGN_OR_RETURN(
      const std::unique_ptr<GuestMapping> mapping,
      GuestMapping::Create(name, std::move(mapper), map.ram, map.frame_count, /*writable=*/false));
  const std::unique_ptr<FILE, CloseFile> file(std::fopen(path, "w"));
  if (file == nullptr) return absl::ErrnoToStatus(errno, path);
  const GuestMemory& memory = mapping->memory();
  for (Gfn gfn = 0; gfn < memory.page_count(); ++gfn) {
    if (!memory.IsRam(gfn)) continue;
    const uint32_t crc = Crc32c(std::span(memory.Page(gfn), kPageBytes));
    std::fprintf(file.get(), "%" PRIx64 " %08" PRIx32 "\n", gfn, crc);
  }
  if (std::fflush(file.get()) != 0) return absl::ErrnoToStatus(errno, path);
  return absl::OkStatus();
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: xen_memory GUEST FILE\n");
    return 2;
  }
  const absl::Status written = haven::Write(argv[1], argv[2]);
  if (!written.ok()) std::fprintf(stderr, "%s\n", std::string(written.message()).c_str());
  return written.ok() ? 0 : 1;
}
