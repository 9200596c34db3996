// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_replica.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/state.h"

namespace haven {
namespace {

// For the self-proof, at a speed that an emulated machine reaches.
absl::Duration PrepareTimeout(const SyntheticSpec& spec) {
  if (!spec.verify) return GuestChannel::kTimeout;
  return absl::Seconds(10) + absl::Seconds(static_cast<double>(spec.mem_bytes) / 50e6);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SyntheticReplica>> SyntheticReplica::Create(
    const SyntheticLaunch& launch, absl::string_view config, absl::string_view overrides) {
  HAVEN_ASSIGN_OR_RETURN(SyntheticSpec spec, ParseSyntheticSpec(config));
  HAVEN_RETURN_IF_ERROR(OverrideSyntheticSpec(overrides, spec));
  HAVEN_ASSIGN_OR_RETURN(StartedGuest started, LaunchGuestProcess(launch, spec, true));
  HAVEN_ASSIGN_OR_RETURN(std::shared_ptr<SyntheticConnection> connection,
                         SyntheticConnection::Adopt(launch.runtime_dir, std::move(started)));
  return std::unique_ptr<SyntheticReplica>(new SyntheticReplica(std::move(connection)));
}

SyntheticReplica::SyntheticReplica(std::shared_ptr<SyntheticConnection> connection)
    : connection_(std::move(connection)) {}

SyntheticReplica::~SyntheticReplica() {
  if (running_ || abandoned_) return;
  const absl::Status abandoned = Abandon();
  // The end of the connection, which follows, makes the copy end itself in any case.
  if (!abandoned.ok()) HAVEN_LOG(kError, "synthetic") << abandoned.message();
}

absl::Status SyntheticReplica::CheckState(std::span<const std::byte> state) const {
  return DecodeSyntheticState(connection_->spec(), state).status();
}

absl::Status SyntheticReplica::Prepare(std::span<const std::byte> state) {
  HAVEN_RETURN_IF_ERROR(CheckState(state));
  GuestMessage message;
  message.op = GuestOp::kPrepare;
  std::copy(state.begin(), state.end(), message.payload_room.begin());
  message.payload_bytes = static_cast<uint16_t>(state.size());
  const absl::Status prepared =
      connection_->channel().Call(message, PrepareTimeout(connection_->spec()));
  if (prepared.ok()) return prepared;
  return absl::InternalError(absl::StrCat("the copy of synthetic guest ", connection_->spec().name,
                                          " can not run: ", prepared.message()));
}

absl::Status SyntheticReplica::Outlive() {
  const absl::Status told = connection_->channel().Call(GuestOp::kOutlive);
  if (told.ok()) return told;
  return absl::InternalError(told.message());
}

absl::Status SyntheticReplica::Run() {
  if (running_) return absl::OkStatus();
  HAVEN_RETURN_IF_ERROR(connection_->channel().Call(GuestOp::kRun));
  running_ = true;
  // An engine that protects the guest anew must be able to attach.
  connection_->channel().Close();
  return absl::OkStatus();
}

absl::Status SyntheticReplica::Abandon() {
  if (running_) {
    return absl::FailedPreconditionError(absl::StrCat("synthetic guest ", connection_->spec().name,
                                                      ": it was let run and is no copy any more"));
  }
  HAVEN_RETURN_IF_ERROR(connection_->Kill());
  abandoned_ = true;
  return absl::OkStatus();
}

}  // namespace haven
