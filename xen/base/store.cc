// SPDX-License-Identifier: Apache-2.0
#include "xen/base/store.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "xen/base/libxc.h"

namespace haven {

namespace {

// A transaction is repeated when somebody else has changed the store meanwhile.
constexpr int kTransactionTries = 100;
// Watches in one call of TakeEvents; what is left stays announced.
constexpr int kEventsMax = 1000;

struct CloseStore {
  void operator()(xs_handle* handle) const { xs_close(handle); }
};
struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using Allocated = std::unique_ptr<T, Free>;

absl::Status Error(const char* what, const std::string& path) {
  const int error = errno;
  const std::string message =
      absl::StrCat(what, " ", path, " in the store: ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case EPIPE:
    case EIO:
    case EBADF:
    case ECONNREFUSED:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

class LibXenStore final : public XenStore {
 public:
  explicit LibXenStore(std::unique_ptr<xs_handle, CloseStore> handle)
      : handle_(std::move(handle)) {}

  absl::StatusOr<std::string> Read(const std::string& path) override {
    return ReadIn(XBT_NULL, path);
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    unsigned count = 0;
    const Allocated<char*> entries(xs_directory(handle_.get(), XBT_NULL, path.c_str(), &count));
    if (entries == nullptr) return Error("list", path);
    return std::vector<std::string>(entries.get(), entries.get() + count);
  }

  absl::Status Write(const std::string& path, const std::string& value) override {
    return WriteIn(XBT_NULL, path, value);
  }

  absl::Status Remove(const std::string& path) override {
    if (xs_rm(handle_.get(), XBT_NULL, path.c_str()) || errno == ENOENT) return absl::OkStatus();
    return Error("remove", path);
  }

  absl::StatusOr<bool> Replace(const std::string& path, const std::string& expected,
                               const std::string& value) override {
    for (int i = 0; i < kTransactionTries; ++i) {
      const xs_transaction_t transaction = xs_transaction_start(handle_.get());
      if (transaction == XBT_NULL) return Error("begin a transaction for", path);
      const absl::StatusOr<std::string> now = ReadIn(transaction, path);
      const bool fits = now.ok() && *now == expected;
      const absl::Status written = fits ? WriteIn(transaction, path, value) : absl::OkStatus();
      const bool keep = fits && written.ok();
      const bool ended = xs_transaction_end(handle_.get(), transaction, !keep);
      HAVEN_RETURN_IF_ERROR(written);
      if (!now.ok() && !absl::IsNotFound(now.status())) return now.status();
      if (!fits) return false;
      if (ended) return true;
      if (errno != EAGAIN) return Error("change", path);
    }
    return absl::UnavailableError(absl::StrCat("the store changes too often to change ", path));
  }

  absl::Status ResumeDomain(uint32_t domid) override {
    if (xs_resume_domain(handle_.get(), domid)) return absl::OkStatus();
    return Error("resume", absl::StrCat("domain ", domid));
  }

  absl::Status Watch(const std::string& path) override {
    if (xs_watch(handle_.get(), path.c_str(), "haven")) return absl::OkStatus();
    return Error("watch", path);
  }

  bool TakeEvents() override {
    int taken = 0;
    while (taken < kEventsMax) {
      const Allocated<char*> event(xs_check_watch(handle_.get()));
      if (event == nullptr) break;
      ++taken;
    }
    return taken > 0;
  }

  int event_fd() const override { return xs_fileno(handle_.get()); }

 private:
  absl::StatusOr<std::string> ReadIn(xs_transaction_t transaction, const std::string& path) {
    unsigned bytes = 0;
    const Allocated<void> value(xs_read(handle_.get(), transaction, path.c_str(), &bytes));
    if (value == nullptr) return Error("read", path);
    return std::string(static_cast<const char*>(value.get()), bytes);
  }

  absl::Status WriteIn(xs_transaction_t transaction, const std::string& path,
                       const std::string& value) {
    if (xs_write(handle_.get(), transaction, path.c_str(), value.data(),
                 static_cast<unsigned>(value.size()))) {
      return absl::OkStatus();
    }
    return Error("write", path);
  }

  const std::unique_ptr<xs_handle, CloseStore> handle_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<XenStore>> OpenXenStore() {
  std::unique_ptr<xs_handle, CloseStore> handle(xs_open(0));
  if (handle == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("the store's daemon (xenstored) does not answer: ", std::strerror(errno)));
  }
  return std::make_unique<LibXenStore>(std::move(handle));
}

}  // namespace haven
