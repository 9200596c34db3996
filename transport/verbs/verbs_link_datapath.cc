// SPDX-License-Identifier: Apache-2.0
//
// No allocation, no locks, no logging, no exceptions in this file.
#include <arpa/inet.h>

#include <algorithm>

#include "transport/verbs/verbs_link.h"
#include "transport/verbs/wc_status.h"

namespace haven {
namespace {

// Marks the work request of a receive; sequence numbers of sends never get there.
constexpr uint64_t kReceiveTag = uint64_t{1} << 63;

}  // namespace

// The region's own size decides; the RemoteRegion may narrow it.
bool VerbsLink::Lies(const WriteRequest& request) const {
  if (request.bytes == 0) return true;
  return request.bytes <= parts_.pair->limits().write_bytes &&
         request.bytes <= request.remote.bytes &&
         request.remote_offset <= request.remote.bytes - request.bytes &&
         parts_.regions->Find(request.local_region, request.local_offset, request.bytes) != nullptr;
}

absl::Status VerbsLink::PostWrites(std::span<const WriteRequest> requests) {
  if (failure_ != Failure::kNone) return failed_status();
  if (requests.size() > sends_.depth()) return statuses_.list_too_long;
  if (requests.size() > sends_.room()) return statuses_.queue_full;
  if (!std::all_of(requests.begin(), requests.end(),
                   [this](const WriteRequest& request) { return Lies(request); })) {
    return statuses_.out_of_bounds;
  }
  while (!requests.empty()) {
    const size_t count = std::min(requests.size(), kPostBatch);
    if (!PostBatch(requests.first(count), count == requests.size())) return failed_status();
    requests = requests.subspan(count);
  }
  return absl::OkStatus();
}

bool VerbsLink::PostBatch(std::span<const WriteRequest> requests, bool ends_list) {
  const uint64_t first_sequence = sends_.next_sequence();
  const uint32_t inline_bytes = parts_.pair->limits().inline_bytes;
  for (size_t i = 0; i < requests.size(); ++i) {
    const WriteRequest& request = requests[i];
    const bool last = i + 1 == requests.size();
    const bool signaled = sends_.MustSignal(request.signaled, ends_list && last, request.bytes);
    ibv_send_wr& work = work_[i];
    work = {};
    work.wr_id =
        sends_.Push({.id = request.id, .wanted = request.signaled}, signaled, request.bytes);
    work.next = last ? nullptr : &work_[i + 1];
    work.opcode = request.has_immediate ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE;
    work.imm_data = htonl(request.immediate);
    if (signaled) work.send_flags |= IBV_SEND_SIGNALED;
    if (request.bytes == 0) continue;
    if (request.bytes <= inline_bytes) work.send_flags |= IBV_SEND_INLINE;
    const std::byte* from =
        parts_.regions->Find(request.local_region, request.local_offset, request.bytes);
    pieces_[i] = {.addr = reinterpret_cast<uintptr_t>(from),
                  .length = request.bytes,
                  .lkey = parts_.regions->LocalKey(request.local_region, parts_.local_rail)};
    work.sg_list = &pieces_[i];
    work.num_sge = 1;
    work.wr.rdma.remote_addr = request.remote.base + request.remote_offset;
    work.wr.rdma.rkey = RemoteKey(request.remote.key, parts_.remote_rail);
  }
  return Send(work_.data(), first_sequence);
}

bool VerbsLink::Send(ibv_send_wr* first, uint64_t first_sequence) {
  // The time of a queue that was empty starts now.
  if (sends_.outstanding() == sends_.next_sequence() - first_sequence) progress_ns_ = 0;
  ibv_send_wr* refused = nullptr;
  if (ibv_post_send(parts_.pair->qp(), first, &refused) == 0) return true;
  sends_.Unpush(refused == nullptr ? first_sequence : refused->wr_id);
  Fail(Failure::kDevice, CompletionResult::kOther);
  return false;
}

absl::Status VerbsLink::PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                                 RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) {
  if (failure_ != Failure::kNone) return failed_status();
  if (sends_.room() == 0) return statuses_.queue_full;
  const WriteRequest place = {.local_region = local_region,
                              .local_offset = local_offset,
                              .remote = remote,
                              .remote_offset = remote_offset,
                              .bytes = bytes};
  if (!Lies(place)) return statuses_.out_of_bounds;
  ibv_send_wr& work = work_[0];
  work = {};
  const uint64_t sequence =
      sends_.Push({.id = id, .kind = CompletionKind::kRead, .wanted = true}, true, bytes);
  work.wr_id = sequence;
  work.opcode = IBV_WR_RDMA_READ;
  work.send_flags = IBV_SEND_SIGNALED;
  if (bytes != 0) {
    const std::byte* to = parts_.regions->Find(local_region, local_offset, bytes);
    pieces_[0] = {.addr = reinterpret_cast<uintptr_t>(to),
                  .length = bytes,
                  .lkey = parts_.regions->LocalKey(local_region, parts_.local_rail)};
    work.sg_list = &pieces_[0];
    work.num_sge = 1;
    work.wr.rdma.remote_addr = remote.base + remote_offset;
    work.wr.rdma.rkey = RemoteKey(remote.key, parts_.remote_rail);
  }
  return Send(&work, sequence) ? absl::OkStatus() : failed_status();
}

absl::Status VerbsLink::PostReceives(uint32_t count) {
  if (failure_ != Failure::kNone) return failed_status();
  if (count > parts_.pair->limits().receive_depth - receives_) return statuses_.receives_full;
  while (count > 0) {
    const uint32_t batch = std::min<uint32_t>(count, kPostBatch);
    if (!PostReceiveBatch(batch)) return failed_status();
    count -= batch;
  }
  return absl::OkStatus();
}

// An immediate has no bytes of its own, so its receive needs none.
bool VerbsLink::PostReceiveBatch(uint32_t count) {
  std::array<ibv_recv_wr, kPostBatch> receives;
  for (uint32_t i = 0; i < count; ++i) {
    receives[i] = {};
    receives[i].wr_id = kReceiveTag;
    receives[i].next = i + 1 < count ? &receives[i + 1] : nullptr;
  }
  ibv_recv_wr* refused = nullptr;
  if (ibv_post_recv(parts_.pair->qp(), receives.data(), &refused) != 0) {
    Fail(Failure::kDevice, CompletionResult::kOther);
    return false;
  }
  receives_ += count;
  return true;
}

size_t VerbsLink::Poll(std::span<Completion> out) {
  if (failure_ == Failure::kRevoked || out.empty()) return 0;
  size_t count = TakeCompletions(out);
  // Behind a full answer may wait what the clock would miss.
  if (failure_ == Failure::kNone && count < out.size()) {
    Watch(/*idle=*/count == 0);
    // Its last immediates may have come between the look above and its end.
    if (failure_ != Failure::kNone) count += TakeCompletions(out.subspan(count));
  }
  if (failure_ != Failure::kNone) count += ReportFailure(out.subspan(count));
  return count;
}

size_t VerbsLink::TakeCompletions(std::span<Completion> out) {
  size_t count = 0;
  while (count < out.size()) {
    std::array<ibv_wc, kPollBatch> done;
    const size_t most = std::min(kPollBatch, out.size() - count);
    const int got = ibv_poll_cq(parts_.pair->cq(), static_cast<int>(most), done.data());
    if (got < 0) Fail(Failure::kDevice, CompletionResult::kOther);
    if (got <= 0) break;
    armed_ = false;
    for (size_t i = 0; i < static_cast<size_t>(got); ++i) {
      const bool receive = (done[i].wr_id & kReceiveTag) != 0;
      if (receive ? TakeReceive(done[i], out[count]) : TakeSend(done[i], out[count])) ++count;
    }
  }
  // The reason of a flush may be a completion behind it.
  if (count < out.size() && receives_flushed_) {
    Fail(Failure::kDisconnected, CompletionResult::kRetry);
  }
  return count;
}

// False: nothing to report.
bool VerbsLink::TakeSend(const ibv_wc& wc, Completion& out) {
  // What is outstanding after the first failure is reported by ReportFailure, whatever the device
  // makes of it.
  if (failure_ != Failure::kNone) return false;
  const std::optional<SendQueue::Request> request = sends_.Finish(wc.wr_id);
  if (!request.has_value()) {
    Fail(Failure::kDevice, CompletionResult::kOther);
    return false;
  }
  progress_ns_ = 0;
  CompletionResult result = ResultOfWcStatus(wc.status);
  if (result == CompletionResult::kOk) {
    if (!request->wanted) return false;
  } else {
    // The first failure of all is a flush only if the queue pair was torn down from outside.
    const bool torn = result == CompletionResult::kFlushed;
    if (torn) result = CompletionResult::kRetry;
    const Failure failure = torn                                      ? Failure::kDisconnected
                            : result == CompletionResult::kRetry      ? Failure::kNoAnswer
                            : result == CompletionResult::kPermission ? Failure::kRefused
                                                                      : Failure::kDevice;
    Fail(failure, result);
    failure_reported_ = true;
  }
  out = {.id = request->id, .kind = request->kind, .result = result};
  return true;
}

bool VerbsLink::TakeReceive(const ibv_wc& wc, Completion& out) {
  if (receives_ > 0) --receives_;
  if (wc.status != IBV_WC_SUCCESS) {
    receives_flushed_ = true;
    return false;
  }
  // A message of the peer's that is not an immediate, which the protocol does not have.
  if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
    Fail(Failure::kDevice, CompletionResult::kOther);
    return false;
  }
  out = {.kind = CompletionKind::kImmediate, .immediate = ntohl(wc.imm_data)};
  return true;
}

// One request, or none, carries the reason; the others were flushed.
size_t VerbsLink::ReportFailure(std::span<Completion> out) {
  size_t count = 0;
  while (count < out.size()) {
    const std::optional<SendQueue::Request> request = sends_.TakeOldest();
    if (request.has_value()) {
      out[count++] = {.id = request->id,
                      .kind = request->kind,
                      .result = failure_reported_ ? CompletionResult::kFlushed : failure_result_};
    } else if (!failure_reported_) {
      out[count++] = {.kind = CompletionKind::kImmediate, .result = failure_result_};
    } else {
      break;
    }
    failure_reported_ = true;
  }
  return count;
}

// Looks at the clock, whatever has arrived: a peer that goes on sending does not excuse a request
// that it does not answer. Now and then, if nothing has come, looks for the peer's end.
void VerbsLink::Watch(bool idle) {
  if (!idle && sends_.outstanding() == 0) return;
  const int64_t now_ns = parts_.clock->NowNs();
  if (sends_.outstanding() > 0) {
    if (progress_ns_ == 0) progress_ns_ = now_ns;
    if (now_ns - progress_ns_ >= parts_.options.request_timeout_ns) {
      Fail(Failure::kDeadline, CompletionResult::kRetry);
      return;
    }
  }
  if (!idle || now_ns - looked_ns_ < parts_.options.look_interval_ns) return;
  looked_ns_ = now_ns;
  Look();
}

void VerbsLink::Look() {
  const QueuePair::Events events = parts_.pair->TakeEvents();
  if (events.completion) armed_ = false;
  if (events.disconnected) Fail(Failure::kDisconnected, CompletionResult::kRetry);
}

absl::Status VerbsLink::ArmEvent() {
  if (failure_reported_) return failed_status();
  Look();
  if (!armed_ && failure_ == Failure::kNone) {
    if (ibv_req_notify_cq(parts_.pair->cq(), 0) != 0) {
      Fail(Failure::kDevice, CompletionResult::kOther);
    }
    armed_ = true;
  }
  return absl::OkStatus();
}

void VerbsLink::Fail(Failure failure, CompletionResult result) {
  if (failure_ != Failure::kNone) return;
  failure_ = failure;
  failure_result_ = result;
  parts_.pair->MoveToError();
}

}  // namespace haven
