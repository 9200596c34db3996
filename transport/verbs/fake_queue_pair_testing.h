// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_FAKE_QUEUE_PAIR_TESTING_H_
#define HAVEN_TRANSPORT_VERBS_FAKE_QUEUE_PAIR_TESTING_H_

#include <infiniband/verbs.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transport/verbs/queue_pair.h"

namespace haven {

// What a test may look at and set; it outlives the link that owns the queue pair.
struct FakeDevice {
  struct Sent {
    uint64_t wr_id = 0;
    ibv_wr_opcode opcode = IBV_WR_RDMA_WRITE;
    unsigned flags = 0;
    uint32_t bytes = 0;
    uint32_t lkey = 0;
    uint32_t rkey = 0;
    uint64_t remote_address = 0;
    uint32_t immediate = 0;  // In network order.
  };

  QueuePairLimits limits = {
      .send_depth = 128, .receive_depth = 64, .inline_bytes = 64, .write_bytes = 1 << 20};
  std::vector<Sent> sent;
  std::deque<ibv_wc> completions;
  int doorbells = 0;
  uint32_t receives = 0;
  uint32_t sends_accepted = UINT32_MAX;  // Then ibv_post_send fails.
  int arms = 0;
  int poll_error = 0;
  QueuePair::Events events;
  int looks = 0;
  bool in_error = false;
  // In the order of the calls: 'p' permission, 'd' destroyed.
  std::string cut;
  absl::Status permission;
  absl::Status destruction;

  void Complete(uint64_t wr_id, ibv_wc_status status = IBV_WC_SUCCESS,
                ibv_wc_opcode opcode = IBV_WC_RDMA_WRITE, uint32_t immediate = 0) {
    ibv_wc wc = {};
    wc.wr_id = wr_id;
    wc.status = status;
    wc.opcode = opcode;
    wc.imm_data = immediate;
    completions.push_back(wc);
  }
};

// A queue pair whose device is a FakeDevice: libibverbs calls a device through the pointers of its
// context, so these replace it.
class FakeQueuePair final : public QueuePair {
 public:
  explicit FakeQueuePair(FakeDevice& device) : device_(device) {
    context_.ops.post_send = PostSend;
    context_.ops.post_recv = PostReceive;
    context_.ops.poll_cq = PollCq;
    context_.ops.req_notify_cq = Arm;
    qp_.context = &context_;
    qp_.qp_context = &device_;
    cq_.context = &context_;
    cq_.cq_context = &device_;
  }

  ibv_qp* qp() const override { return &qp_; }
  ibv_cq* cq() const override { return &cq_; }
  const QueuePairLimits& limits() const override { return device_.limits; }
  std::string Describe() const override { return "queue pair 1 on fake0"; }
  int event_fd() const override { return -1; }
  Events TakeEvents() override {
    ++device_.looks;
    return std::exchange(device_.events, {});
  }
  void MoveToError() override { device_.in_error = true; }
  absl::Status TakePermission() override {
    device_.cut += 'p';
    return device_.permission;
  }
  absl::Status Destroy() override {
    device_.cut += 'd';
    return device_.destruction;
  }

 private:
  static FakeDevice& DeviceOf(ibv_qp* qp) { return *static_cast<FakeDevice*>(qp->qp_context); }
  static FakeDevice& DeviceOf(ibv_cq* cq) { return *static_cast<FakeDevice*>(cq->cq_context); }

  static int PostSend(ibv_qp* qp, ibv_send_wr* work, ibv_send_wr** refused) {
    FakeDevice& device = DeviceOf(qp);
    ++device.doorbells;
    for (; work != nullptr; work = work->next) {
      if (device.sent.size() == device.sends_accepted) {
        *refused = work;
        return ENOMEM;
      }
      FakeDevice::Sent sent = {.wr_id = work->wr_id,
                               .opcode = work->opcode,
                               .flags = work->send_flags,
                               .rkey = work->wr.rdma.rkey,
                               .remote_address = work->wr.rdma.remote_addr,
                               .immediate = work->imm_data};
      if (work->num_sge == 1) {
        sent.bytes = work->sg_list->length;
        sent.lkey = work->sg_list->lkey;
      }
      device.sent.push_back(sent);
    }
    return 0;
  }

  static int PostReceive(ibv_qp* qp, ibv_recv_wr* work, ibv_recv_wr** /*refused*/) {
    for (; work != nullptr; work = work->next) ++DeviceOf(qp).receives;
    return 0;
  }

  static int PollCq(ibv_cq* cq, int most, ibv_wc* out) {
    FakeDevice& device = DeviceOf(cq);
    if (device.poll_error != 0) return -device.poll_error;
    int count = 0;
    for (; count < most && !device.completions.empty(); ++count) {
      out[count] = device.completions.front();
      device.completions.pop_front();
    }
    return count;
  }

  static int Arm(ibv_cq* cq, int /*solicited_only*/) {
    ++DeviceOf(cq).arms;
    return 0;
  }

  FakeDevice& device_;
  mutable ibv_context context_ = {};
  mutable ibv_qp qp_ = {};
  mutable ibv_cq cq_ = {};
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_FAKE_QUEUE_PAIR_TESTING_H_
