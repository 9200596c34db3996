// SPDX-License-Identifier: Apache-2.0
//
// No allocation, no locks, no logging, no exceptions in this file.
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "engine/base/clock.h"
#include "transport/shm/shm_link.h"

namespace haven {
namespace {

constexpr int64_t kPeerCheckIntervalNs = 200 * kNsPerUs;

// A peer that floods its wake-up socket only wakes this side too often.
constexpr int kMaxDrainReads = 16;

}  // namespace

// The region's own size decides; the RemoteRegion may narrow it.
std::byte* ShmLink::FindRemote(const RemoteRegion& remote, uint64_t offset, uint32_t bytes) const {
  if (remote.base != 0 || bytes > remote.bytes || offset > remote.bytes - bytes) return nullptr;
  return parts_.remote->Find(remote.key, offset, bytes);
}

absl::Status ShmLink::PostWrites(std::span<const WriteRequest> requests) {
  CheckPeer();
  if (failure_reported_) return failed_status();
  if (requests.size() > CompletionQueue::kDepth) return statuses_.list_too_long;
  if (requests.size() > completions_.room()) return statuses_.queue_full;
  for (const WriteRequest& request : requests) {
    if (request.bytes == 0) continue;
    if (request.bytes > kShmMaxTransferBytes ||
        FindRemote(request.remote, request.remote_offset, request.bytes) == nullptr ||
        parts_.local->Find(request.local_region, request.local_offset, request.bytes) == nullptr) {
      return statuses_.out_of_bounds;
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!Write(requests[i])) {
      FailFrom(requests.subspan(i));
      break;
    }
  }
  return absl::OkStatus();
}

// One request, within bounds. False: the link has failed, before or by this request.
bool ShmLink::Write(const WriteRequest& request) {
  if (receiver_.SenderClosed()) Fail(Failure::kPeerGone);
  if (failure_ != Failure::kNone) return false;
  if (request.bytes != 0) {
    std::memcpy(FindRemote(request.remote, request.remote_offset, request.bytes),
                parts_.local->Find(request.local_region, request.local_offset, request.bytes),
                request.bytes);
  }
  if (request.has_immediate && !SendImmediate(request.immediate)) return false;
  if (request.signaled) completions_.Push({.id = request.id, .kind = CompletionKind::kWrite});
  return true;
}

// The first request reports the failure, the others were not tried.
void ShmLink::FailFrom(std::span<const WriteRequest> requests) {
  CompletionResult result =
      failure_ == Failure::kCorrupt ? CompletionResult::kOther : CompletionResult::kRetry;
  for (const WriteRequest& request : requests) {
    completions_.Push({.id = request.id, .kind = CompletionKind::kWrite, .result = result});
    result = CompletionResult::kFlushed;
  }
  failure_reported_ = true;
}

bool ShmLink::SendImmediate(uint32_t immediate) {
  switch (sender_.Send(immediate)) {
    case LaneSender::Result::kSent:
      return true;
    case LaneSender::Result::kSentWake:
      WakePeer();
      return true;
    case LaneSender::Result::kNoReceive:
      Fail(Failure::kNoReceive);
      return false;
    case LaneSender::Result::kCorrupt:
      Fail(Failure::kCorrupt);
      return false;
  }
  return false;
}

// A full socket means that wake-ups are waiting already; a closed one is found by CheckPeer.
void ShmLink::WakePeer() {
  const char wake = 1;
  static_cast<void>(send(parts_.wake.get(), &wake, sizeof(wake), MSG_DONTWAIT | MSG_NOSIGNAL));
}

absl::Status ShmLink::PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                               RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) {
  CheckPeer();
  if (failure_reported_) return failed_status();
  if (completions_.room() == 0) return statuses_.queue_full;
  std::byte* to = parts_.local->Find(local_region, local_offset, bytes);
  const std::byte* from = FindRemote(remote, remote_offset, bytes);
  if (bytes > kShmMaxTransferBytes || to == nullptr || from == nullptr) {
    return statuses_.out_of_bounds;
  }
  Completion completion = {.id = id, .kind = CompletionKind::kRead};
  if (failure_ == Failure::kNone) {
    std::memcpy(to, from, bytes);
  } else {
    completion.result = CompletionResult::kRetry;
    failure_reported_ = true;
  }
  completions_.Push(completion);
  return absl::OkStatus();
}

absl::Status ShmLink::PostReceives(uint32_t count) {
  if (failure_reported_) return failed_status();
  return receiver_.PostReceives(count) ? absl::OkStatus() : statuses_.receives_full;
}

size_t ShmLink::Poll(std::span<Completion> out) {
  if (failure_ == Failure::kRevoked || out.empty()) return 0;
  size_t count = completions_.PopInto(out);
  count += TakeImmediates(out.subspan(count));
  if (count == 0) {
    CheckPeer();
    // Its last immediates may have come between the look above and its end.
    count = TakeImmediates(out);
    if (count == 0 && failure_ != Failure::kNone && !failure_reported_) {
      const bool corrupt = failure_ == Failure::kCorrupt;
      out[count++] = {.id = 0,
                      .kind = CompletionKind::kImmediate,
                      .result = corrupt ? CompletionResult::kOther : CompletionResult::kRetry};
      failure_reported_ = true;
    }
  }
  if (count > 0) event_armed_ = false;
  return count;
}

size_t ShmLink::TakeImmediates(std::span<Completion> out) {
  size_t count = 0;
  while (count < out.size() && failure_ != Failure::kCorrupt) {
    uint32_t immediate = 0;
    switch (receiver_.Take(immediate)) {
      case LaneReceiver::Result::kTaken:
        out[count++] = {.kind = CompletionKind::kImmediate, .immediate = immediate};
        break;
      case LaneReceiver::Result::kEmpty:
        return count;
      case LaneReceiver::Result::kCorrupt:
        Fail(Failure::kCorrupt);
        return count;
    }
  }
  return count;
}

absl::Status ShmLink::ArmEvent() {
  if (failure_reported_) return failed_status();
  char wakes[64];
  for (int i = 0; i < kMaxDrainReads; ++i) {
    if (recv(parts_.wake.get(), wakes, sizeof(wakes), MSG_DONTWAIT) <= 0) break;
  }
  receiver_.Arm();
  event_armed_ = true;
  return absl::OkStatus();
}

// The flag is there when the peer has destroyed its link, the kernel knows when it is dead. Asking
// it costs a system call; so not each time, unless the caller is about to sleep and must not miss
// it.
void ShmLink::CheckPeer() {
  if (failure_ != Failure::kNone) return;
  if (receiver_.SenderClosed()) {
    Fail(Failure::kPeerGone);
    return;
  }
  if (!event_armed_) {
    const int64_t now_ns = SystemClock::Get().NowNs();
    if (now_ns - peer_checked_ns_ < kPeerCheckIntervalNs) return;
    peer_checked_ns_ = now_ns;
  }
  if (PeerIsGone()) Fail(Failure::kPeerGone);
}

bool ShmLink::PeerIsGone() {
  pollfd asked[2] = {{.fd = parts_.wake.get(), .events = 0, .revents = 0},
                     {.fd = parts_.peer->fd(), .events = POLLIN, .revents = 0}};
  return poll(asked, 2, 0) > 0;
}

void ShmLink::Fail(Failure failure) {
  if (failure_ == Failure::kNone) failure_ = failure;
}

}  // namespace haven
