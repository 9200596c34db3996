// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/unix_address.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {
namespace {

constexpr size_t kMaxNameBytes = 80;

}  // namespace

absl::StatusOr<UnixAddress> UnixAddress::Make(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("socket path '", path, "': its last part has ",
                                                   name.size(), " bytes; 1 to ", kMaxNameBytes,
                                                   " are allowed"));
  }
  UnixAddress made;
  made.directory_.reset(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!made.directory_) {
    return absl::ErrnoToStatus(errno, absl::StrCat("open directory ", directory));
  }
  const std::string through = absl::StrCat("/proc/self/fd/", made.directory_.get(), "/", name);
  HAVEN_CHECK_LT(through.size(), sizeof(made.address_.sun_path));
  made.address_.sun_family = AF_UNIX;
  std::memcpy(made.address_.sun_path, through.c_str(), through.size() + 1);
  return made;
}

}  // namespace haven
