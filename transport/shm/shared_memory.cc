// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shared_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "transport/memory_budget.h"

namespace haven {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr uint64_t kStatBlockBytes = 512;  // Unit of st_blocks, stat(2).

// Linux 6.3; spelled out because the C library is older. Earlier kernels refuse it with EINVAL.
constexpr unsigned kNoExecSeal = 0x0008U;

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

absl::StatusOr<UniqueFd> MakeMemfd(unsigned flags) {
  flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(memfd_create("haven", flags | kNoExecSeal));
  if (!fd && errno == EINVAL) fd = UniqueFd(memfd_create("haven", flags));
  if (!fd) return absl::ErrnoToStatus(errno, "memfd_create");
  return fd;
}

absl::Status CheckSize(absl::string_view what, uint64_t bytes) {
  if (bytes > 0 && bytes <= kMaxSharedBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": ", bytes, " bytes; 1 to ", kMaxSharedBytes, " can be shared"));
}

// What a lying peer could have got wrong about its memory, before it is mapped.
absl::StatusOr<uint64_t> CheckedFileBytes(absl::string_view what, int fd, uint64_t bytes) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSizeSeals) != kSizeSeals) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the peer's descriptor is no memfd of sealed size (seals ", seals,
                     ", needed ", kSizeSeals, ")"));
  }
  struct stat info;
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, "fstat of the peer's memory");
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  if (file_bytes != RoundUp(bytes, kPage) && file_bytes != RoundUp(bytes, kHugePage)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the peer claims ", bytes, " bytes, its memory has ", file_bytes));
  }
  const uint64_t allocated = static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes;
  if (allocated < file_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": of the peer's ", file_bytes,
                                                   " bytes only ", allocated, " are allocated"));
  }
  return file_bytes;
}

}  // namespace

SharedMemory::SharedMemory(UniqueFd fd, std::span<std::byte> mapping, size_t usable_bytes)
    : fd_(std::move(fd)), mapping_(mapping), usable_bytes_(usable_bytes) {}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      mapping_(std::exchange(other.mapping_, {})),
      usable_bytes_(std::exchange(other.usable_bytes_, 0)) {}

SharedMemory::~SharedMemory() {
  if (!mapping_.empty()) munmap(mapping_.data(), mapping_.size());
}

bool SharedMemory::IsBackedBy(int fd) const {
  struct stat own;
  struct stat other;
  return fstat(fd_.get(), &own) == 0 && fstat(fd, &other) == 0 && own.st_dev == other.st_dev &&
         own.st_ino == other.st_ino;
}

absl::StatusOr<SharedMemory> SharedMemory::Map(absl::string_view what, UniqueFd fd,
                                               uint64_t usable_bytes, uint64_t file_bytes) {
  void* at = mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    const std::string message = absl::StrCat(what, ": mmap of ", file_bytes, " bytes");
    if (error == ENOMEM || error == EAGAIN) {
      return absl::ResourceExhaustedError(
          absl::StrCat(message, ": no room (memory, address space or vm.max_map_count)"));
    }
    return absl::InvalidArgumentError(absl::StrCat(message, " failed with errno ", error));
  }
  SharedMemory memory(std::move(fd), {static_cast<std::byte*>(at), file_bytes}, usable_bytes);
  if (madvise(at, file_bytes, MADV_DONTFORK) != 0 || madvise(at, file_bytes, MADV_DONTDUMP) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(what, ": madvise"));
  }
  // Unlike MAP_POPULATE this says when it fails.
  if (madvise(at, file_bytes, MADV_POPULATE_WRITE) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": the kernel could not provide ", file_bytes, " bytes, errno ", errno));
  }
  return memory;
}

absl::StatusOr<SharedMemory> SharedMemory::CreateIn(absl::string_view what, uint64_t bytes,
                                                    uint64_t page_bytes, unsigned flags) {
  const uint64_t file_bytes = RoundUp(bytes, page_bytes);
  HAVEN_ASSIGN_OR_RETURN(UniqueFd fd, MakeMemfd(flags));
  if (ftruncate(fd.get(), static_cast<off_t>(file_bytes)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(what, ": ftruncate to ", file_bytes));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(what, ": sealing"));
  }
  return Map(what, std::move(fd), RoundUp(bytes, kPage), file_bytes);
}

absl::StatusOr<SharedMemory> SharedMemory::Create(absl::string_view what, uint64_t bytes) {
  HAVEN_RETURN_IF_ERROR(CheckSize(what, bytes));
  if (bytes >= kHugePage) {
    // Reserved huge pages are taken by mmap as a whole or not at all, and are no other memory.
    absl::StatusOr<SharedMemory> huge =
        CreateIn(what, bytes, kHugePage, MFD_HUGETLB | MFD_HUGE_2MB);
    if (huge.ok()) return huge;
    HAVEN_LOG(kInfo, "shm") << what << ": " << bytes
                            << " bytes in ordinary pages, because there are "
                            << "too few free huge pages of 2 MiB (vm.nr_hugepages)";
  }
  HAVEN_RETURN_IF_ERROR(CheckMemoryFor(bytes, what));
  return CreateIn(what, bytes, kPage, 0);
}

absl::StatusOr<SharedMemory> SharedMemory::Import(absl::string_view what, UniqueFd fd,
                                                  uint64_t bytes) {
  HAVEN_RETURN_IF_ERROR(CheckSize(what, bytes));
  HAVEN_ASSIGN_OR_RETURN(const uint64_t file_bytes, CheckedFileBytes(what, fd.get(), bytes));
  return Map(what, std::move(fd), RoundUp(bytes, kPage), file_bytes);
}

}  // namespace haven
