// SPDX-License-Identifier: Apache-2.0
#include "xen/base/store_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <xen/io/xs_wire.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/control/time_limit.h"
#include "xen/base/store_channel.h"

namespace haven {

namespace {

using Request = StoreChannel::Request;

// A transaction is repeated when somebody else has changed the store meanwhile.
constexpr int kTransactionTries = 100;
// Comes with what is announced; every watch of a handle means the same.
constexpr char kToken[] = "haven";
constexpr char kSocket[] = "/var/run/xenstored/socket";
constexpr char kDevice[] = "/dev/xen/xenbus";

Request ReadOf(uint32_t transaction, const std::string& path) {
  return {XS_READ, transaction, Terminated(path), absl::StrCat("read ", path)};
}

Request WriteOf(uint32_t transaction, const std::string& path, const std::string& value) {
  return {XS_WRITE, transaction, Terminated(path) + value, absl::StrCat("write ", path)};
}

class StoreClient final : public XenStore {
 public:
  StoreClient(UniqueFd connection, absl::Duration patience)
      : patience_(patience), channel_(std::move(connection), patience) {}

  absl::StatusOr<std::string> Read(const std::string& path) override {
    return Ask(ReadOf(0, path));
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    HAVEN_ASSIGN_OR_RETURN(const std::string names,
                           Ask({XS_DIRECTORY, 0, Terminated(path), absl::StrCat("list ", path)}));
    return std::vector<std::string>(absl::StrSplit(names, '\0', absl::SkipEmpty()));
  }
  absl::Status Write(const std::string& path, const std::string& value) override {
    return Ask(WriteOf(0, path, value)).status();
  }
  absl::Status Post(const std::string& path, const std::string& value) override {
    return channel_.Post(WriteOf(0, path, value));
  }
  absl::Status Remove(const std::string& path) override {
    const absl::Status removed =
        Ask({XS_RM, 0, Terminated(path), absl::StrCat("remove ", path)}).status();
    return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
  }
  absl::StatusOr<bool> Replace(const std::string& path, const std::string& expected,
                               const std::string& value) override {
    const TimeLimit limit(patience_);
    for (int i = 0; i < kTransactionTries; ++i) {
      const absl::StatusOr<bool> replaced = TryReplace(path, expected, value, limit);
      if (!absl::IsAborted(replaced.status())) return replaced;
    }
    return absl::InternalError(absl::StrCat("the store changes too often to change ", path));
  }
  absl::Status ResumeDomain(uint32_t domid) override {
    const std::string domain = absl::StrCat(domid);
    return Ask({XS_RESUME, 0, Terminated(domain), absl::StrCat("resume domain ", domain)}).status();
  }
  absl::Status Watch(const std::string& path) override {
    return Ask({XS_WATCH, 0, Terminated(path) + Terminated(kToken), absl::StrCat("watch ", path)})
        .status();
  }
  bool TakeEvents() override { return channel_.TakeEvents(); }
  int event_fd() const override { return channel_.fd(); }

 private:
  absl::StatusOr<std::string> Ask(const Request& request) {
    return channel_.Ask(request, TimeLimit(patience_));
  }

  // Aborted: somebody else has changed the store meanwhile.
  absl::StatusOr<bool> TryReplace(const std::string& path, const std::string& expected,
                                  const std::string& value, const TimeLimit& limit) {
    HAVEN_ASSIGN_OR_RETURN(
        const std::string begun,
        channel_.Ask({XS_TRANSACTION_START, 0, Terminated(""), absl::StrCat("change ", path)},
                     limit));
    const uint32_t transaction = TransactionOf(begun);
    const absl::StatusOr<std::string> now = channel_.Ask(ReadOf(transaction, path), limit);
    const bool fits = now.ok() && *now == expected;
    absl::Status done = now.status();
    if (fits) done = channel_.Ask(WriteOf(transaction, path, value), limit).status();
    if (fits && done.ok()) {
      HAVEN_RETURN_IF_ERROR(channel_.Ask(EndOfTransaction(transaction, true), limit).status());
      return true;
    }
    HAVEN_RETURN_IF_ERROR(channel_.Tell(EndOfTransaction(transaction, false)));
    if (done.ok() || absl::IsNotFound(done)) return false;
    return done;
  }

  const absl::Duration patience_;
  StoreChannel channel_;
};

absl::StatusOr<UniqueFd> Connect() {
  const char* const path = std::getenv("XENSTORED_PATH");
  const std::string name = path != nullptr ? path : kSocket;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("XENSTORED_PATH is too long: ", name));
  }
  name.copy(address.sun_path, name.size());
  UniqueFd connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!connection) return absl::ErrnoToStatus(errno, "make a socket");
  if (connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
      0) {
    return connection;
  }
  const int error = errno;
  // A daemon in a domain of its own is behind the kernel's device.
  UniqueFd device(open(kDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (device && (error == ENOENT || error == ECONNREFUSED)) return device;
  return absl::UnavailableError(absl::StrCat("the store's daemon (xenstored) does not answer at ",
                                             name, ": ", std::strerror(error)));
}

}  // namespace

std::unique_ptr<XenStore> MakeXenStore(UniqueFd connection, absl::Duration patience) {
  return std::make_unique<StoreClient>(std::move(connection), patience);
}

absl::StatusOr<std::unique_ptr<XenStore>> OpenXenStore(absl::Duration patience) {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd connection, Connect());
  return MakeXenStore(std::move(connection), patience);
}

}  // namespace haven
