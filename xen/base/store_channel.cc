// SPDX-License-Identifier: Apache-2.0
#include "xen/base/store_channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

// Requests without an answer: posts, and what was given up.
constexpr size_t kAskedMax = 16;
// Of one look at the connection; what is left stays there.
constexpr int kReadsMax = 64;

absl::Status ErrorOf(absl::string_view name, const std::string& what) {
  const std::string message = absl::StrCat("can not ", what, " in the store: ", name);
  if (name == "ENOENT") return absl::NotFoundError(message);
  if (name == "EACCES" || name == "EPERM") return absl::PermissionDeniedError(message);
  if (name == "EAGAIN") return absl::AbortedError(message);
  return absl::InternalError(message);
}

}  // namespace

StoreChannel::Request EndOfTransaction(uint32_t transaction, bool keep) {
  return {XS_TRANSACTION_END, transaction, Terminated(keep ? "T" : "F"), "end a transaction"};
}

uint32_t TransactionOf(const std::string& answer) {
  return static_cast<uint32_t>(std::strtoul(answer.c_str(), nullptr, 10));
}

std::string Terminated(const std::string& text) {
  return std::string(text.c_str(), text.size() + 1);
}

StoreChannel::StoreChannel(UniqueFd connection, absl::Duration patience)
    : connection_(std::move(connection)), patience_(patience) {}

absl::StatusOr<std::string> StoreChannel::Ask(const Request& request, const TimeLimit& limit) {
  HAVEN_RETURN_IF_ERROR(CheckAnswers());
  answer_.reset();
  HAVEN_RETURN_IF_ERROR(Send(request, /*awaited=*/true));
  for (;;) {
    Receive();
    if (answer_.has_value()) return *std::exchange(answer_, std::nullopt);
    HAVEN_RETURN_IF_ERROR(broken_);
    if (limit.Passed()) break;
    pollfd ready = {connection_.get(), POLLIN, 0};
    poll(&ready, 1, limit.PollMs());
  }
  for (Asked& one : asked_) one.awaited = false;
  return absl::DeadlineExceededError(absl::StrCat("can not ", request.what, ": ", Silence()));
}

absl::Status StoreChannel::Post(const Request& request) {
  HAVEN_RETURN_IF_ERROR(CheckAnswers());
  return Tell(request);
}

bool StoreChannel::TakeEvents() {
  Receive();
  return std::exchange(announced_, false);
}

// OK if another request may be sent: none has waited for too long.
absl::Status StoreChannel::CheckAnswers() {
  Receive();
  HAVEN_RETURN_IF_ERROR(broken_);
  if (asked_.empty()) return absl::OkStatus();
  const int64_t late_ns = asked_.front().since_ns + absl::ToInt64Nanoseconds(patience_);
  if (asked_.size() < kAskedMax && SystemClock::Get().NowNs() < late_ns) return absl::OkStatus();
  return absl::DeadlineExceededError(Silence());
}

std::string StoreChannel::Silence() const {
  const int64_t since_ns = SystemClock::Get().NowNs() - asked_.front().since_ns;
  return absl::StrCat("the store's daemon (xenstored) has not answered for ", since_ns / kNsPerMs,
                      " ms: is it stopped, or the host overloaded?");
}

absl::Status StoreChannel::Send(const Request& request, bool awaited) {
  HAVEN_RETURN_IF_ERROR(broken_);
  if (request.payload.size() > XENSTORE_PAYLOAD_MAX) {
    return absl::InvalidArgumentError(absl::StrCat("can not ", request.what, ": ",
                                                   request.payload.size(), " bytes, at most ",
                                                   XENSTORE_PAYLOAD_MAX, " are possible"));
  }
  const xsd_sockmsg header = {request.type, ++last_id_, request.transaction,
                              static_cast<uint32_t>(request.payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes += request.payload;
  ssize_t sent = send(connection_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  // The kernel's device is no socket.
  if (sent < 0 && errno == ENOTSOCK) sent = write(connection_.get(), bytes.data(), bytes.size());
  if (sent != static_cast<ssize_t>(bytes.size())) {
    return Break(sent < 0 ? std::strerror(errno) : "it takes only a part of a request");
  }
  asked_.push_back({header.req_id, SystemClock::Get().NowNs(), awaited, request.what});
  return absl::OkStatus();
}

absl::Status StoreChannel::Break(absl::string_view cause) {
  broken_ = absl::UnavailableError(
      absl::StrCat("the connection to the store's daemon (xenstored) is gone: ", cause));
  return broken_;
}

// Takes what has come. Does not block.
void StoreChannel::Receive() {
  std::array<char, XENSTORE_PAYLOAD_MAX> buffer;
  for (int i = 0; i < kReadsMax && broken_.ok(); ++i) {
    const ssize_t bytes = read(connection_.get(), buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) {
      Break(bytes == 0 ? "it has ended" : std::strerror(errno)).IgnoreError();
      return;
    }
    in_.append(buffer.data(), static_cast<size_t>(bytes));
    TakeMessages();
  }
}

void StoreChannel::TakeMessages() {
  xsd_sockmsg header;
  size_t taken = 0;
  while (in_.size() - taken >= sizeof(header) && broken_.ok()) {
    std::memcpy(&header, in_.data() + taken, sizeof(header));
    if (header.len > XENSTORE_PAYLOAD_MAX) {
      Break(absl::StrCat("it sends a message of ", header.len, " bytes")).IgnoreError();
      return;
    }
    const size_t bytes = sizeof(header) + header.len;
    if (in_.size() - taken < bytes) break;
    TakeMessage(header, absl::string_view(in_).substr(taken + sizeof(header), header.len));
    taken += bytes;
  }
  in_.erase(0, taken);
}

void StoreChannel::TakeMessage(const xsd_sockmsg& header, absl::string_view payload) {
  if (header.type == XS_WATCH_EVENT) {
    announced_ = true;
    return;
  }
  const auto asked = std::find_if(asked_.begin(), asked_.end(),
                                  [&](const Asked& one) { return one.id == header.req_id; });
  if (asked == asked_.end()) {
    Break("it answers what was not asked").IgnoreError();
    return;
  }
  const Asked one = *asked;
  asked_.erase(asked);
  absl::StatusOr<std::string> answer = std::string(payload);
  if (header.type == XS_ERROR) answer = ErrorOf(payload.substr(0, payload.find('\0')), one.what);
  if (one.awaited) {
    answer_ = std::move(answer);
  } else if (header.type == XS_TRANSACTION_START) {
    // Given up before it began.
    Tell(EndOfTransaction(TransactionOf(*answer), false)).IgnoreError();
  } else if (!answer.ok()) {
    HAVEN_LOG(kWarning, "xen") << std::string(answer.status().message());
  }
}

}  // namespace haven
