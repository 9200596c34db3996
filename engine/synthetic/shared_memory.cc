// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

void MappedMemory::Unmap() {
  if (bytes_.empty()) return;
  HAVEN_CHECK_EQ(munmap(bytes_.data(), bytes_.size()), 0) << "errno " << errno;
  bytes_ = {};
}

absl::StatusOr<UniqueFd> CreateSharedMemory(const std::string& name, size_t bytes) {
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("create memfd ", name));
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("size memfd ", name, " to ", bytes, " bytes"));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("seal memfd ", name));
  }
  return fd;
}

absl::StatusOr<MappedMemory> MapSharedMemory(const UniqueFd& fd, size_t bytes, bool writable,
                                             absl::string_view what) {
  struct stat info {};
  if (fstat(fd.get(), &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("examine ", what));
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSizeSeals) != kSizeSeals) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is no memfd of fixed size"));
  }
  if (std::cmp_not_equal(info.st_size, bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has ", info.st_size, " bytes instead of ", bytes));
  }
  void* address = mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (address == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("map ", bytes, " bytes of ", what));
  }
  return MappedMemory({static_cast<std::byte*>(address), bytes});
}

absl::Status ForbidNewWriters(const UniqueFd& fd) {
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0) {
    return absl::ErrnoToStatus(errno, "seal a memfd against new writers");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenReadOnly(const UniqueFd& fd) {
  const std::string path = absl::StrCat("/proc/self/fd/", fd.get());
  UniqueFd reader(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path, " for reading"));
  return reader;
}

}  // namespace haven
