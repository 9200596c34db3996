// SPDX-License-Identifier: Apache-2.0
//
// Names, one by one, the pages of a Linux guest that the hypervisor or the first domain writes
// without the log of dirty pages seeing it, so that its copy may have older bytes there:
//
//   unlogged_pages GUEST <SYMBOLS
//
// SYMBOLS are the lines of the guest's /proc/kallsyms for the names below. Run while the guest
// stands still. Prints `pages N`, how many pages the domain has; `ring FRAME NAME` for those that
// are the toolstack's and no RAM of an epoch; `unlogged FRAME NAME` for RAM. Exits with 0, or 1
// and the reason.
#include <sys/mman.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/primary/attach.h"

extern "C" {
#include <xenctrl.h>
#include <xenforeignmemory.h>
}

namespace haven {
namespace {

// Kernel variables: for each processor where its data lies, and in it its vcpu_info and a pointer
// to the head of its event queues; then pointers to the pages of the event words, and their number.
constexpr const char* kPerCpu = "__per_cpu_offset";
constexpr const char* kVcpuInfo = "xen_vcpu_info";
constexpr const char* kQueues = "cpu_control_block";
constexpr const char* kEventPages = "event_array";
constexpr const char* kEventPageCount = "event_array_pages";
// EVTCHN_FIFO_NR_CHANNELS in words of four bytes.
constexpr uint64_t kEventPagesMax = 128;

constexpr std::pair<uint32_t, const char*> kRings[] = {
    {HVM_PARAM_STORE_PFN, "store"},          {HVM_PARAM_CONSOLE_PFN, "console"},
    {HVM_PARAM_IOREQ_PFN, "ioreq"},          {HVM_PARAM_BUFIOREQ_PFN, "buffered ioreq"},
    {HVM_PARAM_PAGING_RING_PFN, "paging"},   {HVM_PARAM_MONITOR_RING_PFN, "monitor"},
    {HVM_PARAM_SHARING_RING_PFN, "sharing"},
};

using Symbols = std::map<std::string, uint64_t>;

struct CloseXc {
  void operator()(xc_interface* xc) const { xc_interface_close(xc); }
};
struct CloseMemory {
  void operator()(xenforeignmemory_handle* handle) const { xenforeignmemory_close(handle); }
};

absl::Status Failed(const std::string& what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

absl::StatusOr<Symbols> ReadSymbols(std::istream& in) {
  Symbols symbols;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string address, type, name;
    uint64_t value = 0;
    if (!(words >> address >> type >> name) || !absl::SimpleHexAtoi(address, &value)) continue;
    if (!symbols.emplace(name, value).second) {
      return absl::InvalidArgumentError(absl::StrCat("two symbols are called ", name));
    }
  }
  for (const char* name : {kPerCpu, kVcpuInfo, kQueues, kEventPages, kEventPageCount}) {
    if (!symbols.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat("the symbol ", name, " is not given"));
    }
  }
  return symbols;
}

// A guest of this host, looked at from outside.
class Guest {
 public:
  static absl::StatusOr<Guest> Open(const std::string& name) {
    HAVEN_ASSIGN_OR_RETURN(const uint32_t domid, FindXenGuest(name));
    Guest guest;
    guest.domid_ = domid;
    guest.xc_.reset(xc_interface_open(nullptr, nullptr, 0));
    guest.memory_.reset(xenforeignmemory_open(nullptr, 0));
    if (guest.xc_ == nullptr || guest.memory_ == nullptr) return Failed("no way to the hypervisor");
    if (xc_domain_getinfo(guest.xc_.get(), domid, 1, &guest.info_) != 1 ||
        guest.info_.domid != domid) {
      return Failed("the domain is not there");
    }
    return guest;
  }

  uint64_t pages() const { return info_.nr_pages; }
  uint32_t vcpus() const { return info_.max_vcpu_id + 1; }

  // The frame of a kernel's address.
  absl::StatusOr<uint64_t> FrameOf(uint64_t address) const {
    const unsigned long frame = xc_translate_foreign_address(xc_.get(), domid_, 0, address);
    if (frame == 0) return Failed(absl::StrCat("no page at address ", absl::Hex(address)));
    return uint64_t{frame};
  }

  // A number at a kernel's address, which does not cross a page.
  template <typename Number>
  absl::StatusOr<Number> Read(uint64_t address) const {
    HAVEN_ASSIGN_OR_RETURN(const xen_pfn_t frame, FrameOf(address));
    int error = 0;
    void* page = xenforeignmemory_map(memory_.get(), domid_, PROT_READ, 1, &frame, &error);
    if (page == nullptr || error != 0) return Failed("map a page of the guest");
    Number number;
    std::memcpy(&number, static_cast<const char*>(page) + address % XC_PAGE_SIZE, sizeof(number));
    xenforeignmemory_unmap(memory_.get(), page, 1);
    return number;
  }

  absl::Status PrintRings() const {
    for (const auto& [param, name] : kRings) {
      uint64_t frame = 0;
      if (xc_hvm_param_get(xc_.get(), domid_, param, &frame) != 0) return Failed(name);
      if (frame != 0) std::printf("ring %" PRIx64 " %s\n", frame, name);
    }
    uint64_t first = 0;
    uint64_t pages = 0;
    if (xc_hvm_param_get(xc_.get(), domid_, HVM_PARAM_IOREQ_SERVER_PFN, &first) != 0 ||
        xc_hvm_param_get(xc_.get(), domid_, HVM_PARAM_NR_IOREQ_SERVER_PAGES, &pages) != 0) {
      return Failed("ioreq server");
    }
    for (uint64_t i = 0; first != 0 && i < pages; ++i) {
      std::printf("ring %" PRIx64 " ioreq server\n", first + i);
    }
    return absl::OkStatus();
  }

  // Rings and receive buffers of its devices: what it lets the first domain write.
  absl::Status PrintGrants() const {
    if (xc_gnttab_get_version(xc_.get(), domid_) != 1) {
      return absl::UnimplementedError("its grant table is not of version 1");
    }
    gnttab_query_size size = {};
    size.dom = static_cast<domid_t>(domid_);
    if (xc_gnttab_query_size(xc_.get(), &size) != 0 || size.status != GNTST_okay) {
      return Failed("the size of its grant table");
    }
    void* table = nullptr;
    xenforeignmemory_resource_handle* resource = xenforeignmemory_map_resource(
        memory_.get(), static_cast<domid_t>(domid_), XENMEM_resource_grant_table,
        XENMEM_resource_grant_table_id_shared, 0, size.nr_frames, &table, PROT_READ, 0);
    if (resource == nullptr) return Failed("map its grant table");
    const auto* entries = static_cast<const grant_entry_v1_t*>(table);
    const size_t count = size.nr_frames * (XC_PAGE_SIZE / sizeof(grant_entry_v1_t));
    for (size_t i = 0; i < count; ++i) {
      const grant_entry_v1_t& entry = entries[i];
      const bool lends = (entry.flags & GTF_type_mask) == GTF_permit_access;
      if (!lends || (entry.flags & GTF_readonly) != 0) continue;
      std::printf("unlogged %" PRIx32 " grant %zu, writable by domain %u%s\n", entry.frame, i,
                  unsigned{entry.domid}, (entry.flags & GTF_writing) != 0 ? ", mapped" : "");
    }
    xenforeignmemory_unmap_resource(memory_.get(), resource);
    return absl::OkStatus();
  }

 private:
  Guest() = default;

  uint32_t domid_ = 0;
  xc_dominfo_t info_ = {};
  std::unique_ptr<xc_interface, CloseXc> xc_;
  std::unique_ptr<xenforeignmemory_handle, CloseMemory> memory_;
};

absl::Status PrintPage(const Guest& guest, uint64_t address, const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const uint64_t frame, guest.FrameOf(address));
  std::printf("unlogged %" PRIx64 " %s\n", frame, name.c_str());
  return absl::OkStatus();
}

// What the hypervisor writes when it sends events, and to tell the time.
absl::Status PrintEvents(const Guest& guest, const Symbols& symbols) {
  for (uint32_t cpu = 0; cpu < guest.vcpus(); ++cpu) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t base,
                           guest.Read<uint64_t>(symbols.at(kPerCpu) + cpu * sizeof(uint64_t)));
    HAVEN_RETURN_IF_ERROR(PrintPage(guest, base + symbols.at(kVcpuInfo),
                                    absl::StrCat("vcpu_info of processor ", cpu)));
    HAVEN_ASSIGN_OR_RETURN(const uint64_t queues, guest.Read<uint64_t>(base + symbols.at(kQueues)));
    HAVEN_RETURN_IF_ERROR(
        PrintPage(guest, queues, absl::StrCat("event queues of processor ", cpu)));
  }
  HAVEN_ASSIGN_OR_RETURN(const uint32_t pages, guest.Read<uint32_t>(symbols.at(kEventPageCount)));
  if (pages > kEventPagesMax) {
    return absl::InternalError(absl::StrCat(pages, " pages of events can not be"));
  }
  for (uint32_t page = 0; page < pages; ++page) {
    HAVEN_ASSIGN_OR_RETURN(const uint64_t words,
                           guest.Read<uint64_t>(symbols.at(kEventPages) + page * sizeof(uint64_t)));
    HAVEN_RETURN_IF_ERROR(PrintPage(guest, words, absl::StrCat("event words ", page)));
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const Symbols symbols, ReadSymbols(std::cin));
  HAVEN_ASSIGN_OR_RETURN(const Guest guest, Guest::Open(name));
  std::printf("pages %" PRIu64 "\n", guest.pages());
  HAVEN_RETURN_IF_ERROR(guest.PrintRings());
  HAVEN_RETURN_IF_ERROR(guest.PrintGrants());
  return PrintEvents(guest, symbols);
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: unlogged_pages GUEST <SYMBOLS\n");
    return 2;
  }
  const absl::Status done = haven::Run(argv[1]);
  if (!done.ok()) std::fprintf(stderr, "%s\n", std::string(done.message()).c_str());
  return done.ok() ? 0 : 1;
}
