// SPDX-License-Identifier: Apache-2.0
#include "xen/output/netlink_channel.h"

#include <netlink/msg.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// A list that changes while it is written is asked for again; on a living host it settles at once.
constexpr int kDumpAttempts = 8;

// That with which the kernel ended a list after its first part; 0: the list is whole.
int DumpError(const nlmsghdr& done) {
  int32_t error = 0;
  if (done.nlmsg_len < NLMSG_LENGTH(sizeof(error))) return 0;
  std::memcpy(&error, nlmsg_data(&done), sizeof(error));
  return error < 0 ? -error : 0;
}

}  // namespace

NetlinkChannel::NetlinkChannel(std::unique_ptr<NetlinkSocket> socket, const Clock& clock,
                               int64_t timeout_ns)
    : socket_(std::move(socket)),
      clock_(clock),
      timeout_ns_(timeout_ns),
      buffer_(kNetlinkReceiveBytes) {}

absl::Status NetlinkChannel::Explain(int error, absl::string_view what) const {
  if (error == 0) return absl::OkStatus();
  if (error == ETIMEDOUT) {
    return absl::DeadlineExceededError(absl::StrCat(what, ": the kernel did not answer within ",
                                                    timeout_ns_ / kNsPerMs,
                                                    " ms; whether it was done is unknown"));
  }
  const std::string message = absl::StrCat(what, ": ", std::strerror(error),
                                           reason_[0] == '\0' ? "" : ": ", reason_.data());
  switch (error) {
    case ENOENT:
    case ENODEV:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EPERM:
    case EACCES:
      return absl::PermissionDeniedError(
          absl::StrCat(message, "; the output buffer needs root, or the capability CAP_NET_ADMIN"));
    case EOPNOTSUPP:
      return absl::UnimplementedError(message);
    default:
      return absl::FailedPreconditionError(message);
  }
}

absl::Status NetlinkChannel::Command(NetlinkBytes request, absl::string_view what) {
  return Explain(Transact(request), what);
}

absl::Status NetlinkChannel::Get(NetlinkBytes request, const Visitor& visit,
                                 absl::string_view what) {
  return Explain(Transact(request, visit), what);
}

absl::Status NetlinkChannel::Dump(const NetlinkBytes& request, const Visitor& visit,
                                  absl::string_view what) {
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    std::vector<NetlinkBytes> messages;
    bool interrupted = false;
    const Visitor keep = [&](nlmsghdr& header) {
      const auto* begin = reinterpret_cast<const std::byte*>(&header);
      messages.emplace_back(begin, begin + header.nlmsg_len);
    };
    HAVEN_RETURN_IF_ERROR(DumpOnce(request, keep, what, interrupted));
    if (interrupted) continue;
    for (NetlinkBytes& bytes : messages) visit(*reinterpret_cast<nlmsghdr*>(bytes.data()));
    return absl::OkStatus();
  }
  return absl::AbortedError(absl::StrCat(what, ": the list changed each of ", kDumpAttempts,
                                         " times while the kernel wrote it"));
}

absl::Status NetlinkChannel::DumpOnce(const NetlinkBytes& request, const Visitor& visit,
                                      absl::string_view what, bool& interrupted) {
  NetlinkBytes bytes = request;
  const int64_t deadline_ns = clock_.NowNs() + timeout_ns_;
  if (const int unsent = Begin(bytes); unsent != 0) return Explain(unsent, what);
  for (;;) {
    const NetlinkReceived received = socket_->Receive(buffer_, deadline_ns);
    if (received.error != 0) {
      return Explain(received.error == EAGAIN ? ETIMEDOUT : received.error, what);
    }
    auto* header = reinterpret_cast<nlmsghdr*>(buffer_.data());
    int left = static_cast<int>(received.bytes);
    for (; nlmsg_ok(header, left) != 0; header = nlmsg_next(header, &left)) {
      if (header->nlmsg_seq != last_sequence_) continue;
      interrupted |= (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (header->nlmsg_type == NLMSG_DONE) return Explain(DumpError(*header), what);
      if (header->nlmsg_type == NLMSG_ERROR) {
        TakeError(*header);
        return Explain(error_ == 0 ? EBADMSG : error_, what);
      }
      visit(*header);
    }
  }
}

}  // namespace haven
