// SPDX-License-Identifier: Apache-2.0
//
// What a synthetic guest does on command.
#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/guest_server.h"
#include "engine/synthetic/guest_socket.h"
#include "engine/synthetic/operator.h"
#include "engine/synthetic/report.h"

namespace haven {

absl::Status GuestServer::Handle(Connection& connection, const GuestMessage& request,
                                 GuestMessage& reply) {
  switch (request.op) {
    case GuestOp::kQuery:
      Query(reply);
      return absl::OkStatus();
    case GuestOp::kEnd:
      return EndGuest(request);
    case GuestOp::kFault:
      return InjectFault(request);
    case GuestOp::kAttach:
      return Attach(connection);
    default:
      break;
  }
  if (!connection.controller) {
    return absl::PermissionDeniedError(absl::StrCat("synthetic guest ", options_.spec.name,
                                                    ": process ", connection.pid,
                                                    " is not attached to it"));
  }
  return HandleControl(request, reply);
}

absl::Status GuestServer::HandleControl(const GuestMessage& request, GuestMessage& reply) {
  // Asked again because the first answer was late.
  if (request.op == GuestOp::kRun && !waiting_) return absl::OkStatus();
  const bool for_waiting = request.op == GuestOp::kPrepare || request.op == GuestOp::kRun ||
                           request.op == GuestOp::kOutlive;
  if (outlives_ && waiting_ && !for_waiting) return HandleUnrun(request);
  if (for_waiting != waiting_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "synthetic guest ", options_.spec.name, ": operation ", static_cast<int>(request.op),
        " on ", waiting_ ? "a copy that waits" : "a guest that was let run"));
  }
  OutputGate& gate = machine_->gate();
  switch (request.op) {
    case GuestOp::kSuspend:
      if (request.values[0] == 0 || request.values[0] == UINT64_MAX) {
        return absl::InvalidArgumentError("id of a suspend request out of range");
      }
      machine_->Suspend(request.values[0]);
      return absl::OkStatus();
    case GuestOp::kResume:
      machine_->Resume();
      return absl::OkStatus();
    case GuestOp::kEnableLogDirty:
      reply.values[0] = machine_->EnableLogDirty();
      return absl::OkStatus();
    case GuestOp::kDisableLogDirty:
      machine_->DisableLogDirty();
      return absl::OkStatus();

    case GuestOp::kHold:
      return gate.Hold();
    case GuestOp::kBarrier:
      return gate.Barrier();
    case GuestOp::kReleaseOne:
      return gate.ReleaseOne();
    case GuestOp::kOpenAll:
      return gate.OpenAll();
    case GuestOp::kRebuild:
      return machine_->RebuildGate();
    case GuestOp::kDiscard:
      return gate.Discard();
    case GuestOp::kRemove:
      return machine_->RemoveGate();
    case GuestOp::kGateStats:
      GateStats(reply);
      return absl::OkStatus();
    case GuestOp::kPrepare:
      return Prepare(request);
    case GuestOp::kOutlive:
      return Outlive();
    case GuestOp::kRun:
      return LetRun();
    default:
      return absl::UnimplementedError("unknown operation");
  }
}

// What a guard says to any guest, of one that stands still until it is let run, and holds nothing.
absl::Status GuestServer::HandleUnrun(const GuestMessage& request) {
  switch (request.op) {
    case GuestOp::kSuspend:
    case GuestOp::kResume:
    case GuestOp::kOpenAll:
    case GuestOp::kDiscard:
    case GuestOp::kRemove:
    case GuestOp::kGateStats:
      return absl::OkStatus();
    default:
      return absl::FailedPreconditionError(
          absl::StrCat("synthetic guest ", options_.spec.name, ": operation ",
                       static_cast<int>(request.op), " on a copy that has not run yet"));
  }
}

void GuestServer::Query(GuestMessage& reply) {
  const OutputStats stats = machine_->gate().stats();
  const Connection* controller = Controller();
  reply.SetText(FormatSyntheticSpec(options_.spec));
  reply.values[kQueryPid] = static_cast<uint64_t>(getpid());
  reply.values[kQueryController] =
      controller == nullptr ? 0 : static_cast<uint64_t>(controller->pid);
  reply.values[kQueryEnd] = static_cast<uint64_t>(machine_->end());
  reply.values[kQuerySuspended] = machine_->stopped() ? 1 : 0;
  reply.values[kQueryWaiting] = waiting_ ? 1 : 0;
  reply.values[kQueryGateMode] = static_cast<uint64_t>(machine_->gate().mode());
  reply.values[kQueryNextSequence] = machine_->gate().next_sequence();
  reply.values[kQueryReleased] = stats.released_packets;
  reply.values[kQueryHeld] = stats.held_packets;
  reply.values[kQueryDropped] = stats.dropped_packets;
  for (uint32_t vcpu = 0; vcpu < options_.spec.vcpus; ++vcpu) {
    reply.values[kQueryWrites + vcpu] = machine_->writes(vcpu);
  }
}

void GuestServer::GateStats(GuestMessage& reply) {
  const OutputStats stats = machine_->gate().stats();
  reply.values[0] = stats.held_packets;
  reply.values[1] = stats.held_bytes;
  reply.values[2] = stats.released_packets;
  reply.values[3] = stats.dropped_packets;
}

absl::Status GuestServer::EndGuest(const GuestMessage& request) {
  const uint64_t reason = request.values[0];
  if (reason < static_cast<uint64_t>(DomainEnd::kShutdown) ||
      reason > static_cast<uint64_t>(DomainEnd::kCrash)) {
    return absl::InvalidArgumentError(absl::StrCat("a guest can not end by reason ", reason));
  }
  if (waiting_) {
    return absl::FailedPreconditionError(absl::StrCat("synthetic guest ", options_.spec.name,
                                                      ": a copy that waits can only be abandoned"));
  }
  machine_->End(static_cast<DomainEnd>(reason));
  return absl::OkStatus();
}

absl::Status GuestServer::InjectFault(const GuestMessage& request) {
  switch (static_cast<SyntheticFault>(request.values[0])) {
    case SyntheticFault::kLoseLogDirty:
      machine_->LoseLogDirty();
      return absl::OkStatus();
    case SyntheticFault::kLoseOutputBuffer:
      machine_->LoseGate();
      return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown fault ", request.values[0]));
}

absl::Status GuestServer::Prepare(const GuestMessage& request) {
  if (prepared_) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", options_.spec.name, ": it has its state already"));
  }
  HAVEN_ASSIGN_OR_RETURN(const SyntheticState state,
                         DecodeSyntheticState(options_.spec, request.payload()));
  const absl::Status loaded = machine_->Load(state);
  SyntheticReport report;
  report.name = options_.spec.name;
  report.state = state;
  report.finding = std::string(loaded.message());
  report.verdict = !loaded.ok()           ? SyntheticReport::Verdict::kDifferent
                   : options_.spec.verify ? SyntheticReport::Verdict::kEqual
                                          : SyntheticReport::Verdict::kNotChecked;
  const absl::Status written =
      WriteSyntheticReport(SyntheticReportPath(options_.runtime_dir, options_.spec.name), report);
  if (!written.ok()) HAVEN_LOG(kWarning, "synthetic") << written.message();
  prepared_ = loaded.ok();
  return loaded;
}

absl::Status GuestServer::Outlive() {
  if (!prepared_) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", options_.spec.name, ": it has not been given its state"));
  }
  outlives_ = true;
  return absl::OkStatus();
}

absl::Status GuestServer::LetRun() {
  if (!prepared_) {
    return absl::FailedPreconditionError(
        absl::StrCat("synthetic guest ", options_.spec.name, ": it has not been given its state"));
  }
  waiting_ = false;
  machine_->Resume();
  return absl::OkStatus();
}

}  // namespace haven
