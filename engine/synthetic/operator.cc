// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/operator.h"

#include <utility>

#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/guest_channel.h"
#include "engine/synthetic/guest_socket.h"

namespace haven {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(1);

absl::StatusOr<GuestMessage> Ask(const std::string& runtime_dir, const std::string& name,
                                 GuestOp op, uint64_t value) {
  HAVEN_ASSIGN_OR_RETURN(UniqueFd socket, ConnectToGuest(runtime_dir, name));
  GuestChannel channel(name, std::move(socket));
  GuestMessage message;
  message.op = op;
  message.values[0] = value;
  HAVEN_RETURN_IF_ERROR(channel.Call(message, kTimeout));
  return message;
}

}  // namespace

absl::StatusOr<SyntheticGuestInfo> QuerySyntheticGuest(const std::string& runtime_dir,
                                                       const std::string& name) {
  HAVEN_ASSIGN_OR_RETURN(const GuestMessage reply, Ask(runtime_dir, name, GuestOp::kQuery, 0));
  SyntheticGuestInfo info;
  HAVEN_ASSIGN_OR_RETURN(info.spec, ParseSyntheticSpec(reply.text()));
  info.pid = static_cast<pid_t>(reply.values[kQueryPid]);
  info.controller_pid = static_cast<pid_t>(reply.values[kQueryController]);
  info.end = static_cast<DomainEnd>(reply.values[kQueryEnd]);
  info.suspended = reply.values[kQuerySuspended] != 0;
  info.waiting = reply.values[kQueryWaiting] != 0;
  info.gate = static_cast<GateMode>(reply.values[kQueryGateMode]);
  info.next_sequence = reply.values[kQueryNextSequence];
  info.released_packets = reply.values[kQueryReleased];
  info.held_packets = reply.values[kQueryHeld];
  info.dropped_packets = reply.values[kQueryDropped];
  for (uint32_t vcpu = 0; vcpu < kSyntheticMaxVcpus; ++vcpu) {
    info.writes[vcpu] = reply.values[kQueryWrites + vcpu];
  }
  return info;
}

absl::Status EndSyntheticGuest(const std::string& runtime_dir, const std::string& name,
                               DomainEnd reason) {
  return Ask(runtime_dir, name, GuestOp::kEnd, static_cast<uint64_t>(reason)).status();
}

absl::Status InjectSyntheticFault(const std::string& runtime_dir, const std::string& name,
                                  SyntheticFault fault) {
  return Ask(runtime_dir, name, GuestOp::kFault, static_cast<uint64_t>(fault)).status();
}

}  // namespace haven
