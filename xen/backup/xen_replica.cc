// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/xen_replica.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "xen/base/hvm_context.h"
#include "xen/base/state.h"

namespace haven {
namespace {

using DomainState = ReplicaHost::DomainState;

constexpr uint32_t kTscModes = 3;  // 0 .. 2

// An idle host needs some 60 ms for it.
constexpr absl::Duration kDeviceModelPatience = absl::Seconds(10);

// The parameters of a migration stream that a guest may set itself (hvm_allow_set_param in the
// hypervisor), and so at any time: ACPI_IOPORTS_LOCATION, VM_GENERATION_ID_ADDR, X87_FIP_WIDTH,
// VM86_TSS_SIZED.
constexpr std::array<uint64_t, 4> kGuestParams = {19, 34, 36, 37};

bool IsGuestParam(uint64_t index) {
  return std::find(kGuestParams.begin(), kGuestParams.end(), index) != kGuestParams.end();
}

// The copy was built with the others, which Xen takes once or which are places in its memory. One
// that is not named is 0.
absl::Status CheckParams(const XenState& first, const XenState& state) {
  for (const std::span<const HvmParam> params : {first.params(), state.params()}) {
    for (const HvmParam& param : params) {
      const uint64_t built = first.Param(param.index);
      const uint64_t now = state.Param(param.index);
      if (built == now || IsGuestParam(param.index)) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("HVM parameter %u is %#x, must be %#x as when the copy was built",
                          param.index, now, built));
    }
  }
  return absl::OkStatus();
}

// It was checked when the description was decoded.
XenState FirstStateOf(const XenDescription& description) {
  const absl::StatusOr<XenState> state = ParseXenState(description.first_state);
  HAVEN_CHECK_OK(state);
  return *state;
}

}  // namespace

XenReplica::XenReplica(Parts parts)
    : parts_(std::move(parts)),
      first_state_(FirstStateOf(parts_.description)),
      params_set_(first_state_) {
  HAVEN_CHECK_EQ(parts_.device_model == nullptr, parts_.description.device_model.empty());
}

XenReplica::~XenReplica() {
  if (running_ || abandoned_) return;
  const absl::Status abandoned = Abandon();
  // Nobody will take its pause away.
  if (!abandoned.ok()) HAVEN_LOG(kError, "xen") << std::string(abandoned.message());
}

const GuestMemory& XenReplica::memory() const {
  return mapping_ == nullptr ? none_ : mapping_->memory();
}

absl::Status XenReplica::Map(std::vector<uint64_t> ram, uint64_t frame_count) {
  HAVEN_CHECK(mapping_ == nullptr);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ForeignMapper> mapper,
                         parts_.host->MapperFor(parts_.domid));
  HAVEN_ASSIGN_OR_RETURN(mapping_, GuestMapping::Create(parts_.config.name, std::move(mapper),
                                                        std::move(ram), frame_count, true));
  return absl::OkStatus();
}

absl::StatusOr<XenState> XenReplica::Parse(std::span<const std::byte> bytes) const {
  HAVEN_ASSIGN_OR_RETURN(const XenState state, ParseXenState(bytes));
  HAVEN_RETURN_IF_ERROR(CheckHvmContext(state.hvm_context, parts_.description.max_vcpus).status());
  HAVEN_RETURN_IF_ERROR(CheckParams(first_state_, state));
  if (state.device_model.empty() != parts_.description.device_model.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it has ", state.device_model.empty() ? "no" : "a", " device model's state, the copy ",
        state.device_model.empty() ? "has a device model" : "has none"));
  }
  const XenTscInfo& first = first_state_.tsc;
  if (state.tsc.mode >= kTscModes || state.tsc.mode != first.mode || state.tsc.khz != first.khz) {
    return absl::InvalidArgumentError(
        absl::StrFormat("TSC mode %u of %u kHz, must be %u and %u as when the copy was built",
                        state.tsc.mode, state.tsc.khz, first.mode, first.khz));
  }
  return state;
}

absl::Status XenReplica::CheckStillWaits() const {
  if (parts_.toolstack->Ended()) {
    return absl::AbortedError(
        absl::StrCat("the toolstack's process ", parts_.toolstack->pid(),
                     ", which keeps the copy, has ended: ", parts_.toolstack->Messages()));
  }
  HAVEN_ASSIGN_OR_RETURN(const DomainState now, parts_.host->StateOf(parts_.domid));
  if (now == DomainState::kWaiting) {
    return parts_.device_model == nullptr ? absl::OkStatus() : parts_.device_model->Check();
  }
  return absl::AbortedError(absl::StrCat(
      "domain ", parts_.domid, ", the copy, ",
      now == DomainState::kGone ? "was destroyed" : "was unpaused", " by somebody else"));
}

absl::Status XenReplica::CheckState(std::span<const std::byte> state) const {
  absl::Status checked = Parse(state).status();
  if (checked.ok()) checked = CheckStillWaits();
  if (checked.ok()) return checked;
  return absl::Status(checked.code(),
                      absl::StrCat("state of guest ", parts_.config.name, ": ", checked.message()));
}

absl::Status XenReplica::Prepare(std::span<const std::byte> state) {
  const auto failed = [&](const absl::Status& cause) {
    return absl::InternalError(
        absl::StrCat("the copy of guest ", parts_.config.name, " can not run: ", cause.message()));
  };
  const absl::StatusOr<XenState> parsed = Parse(state);
  if (!parsed.ok()) return failed(parsed.status());
  if (parts_.device_model != nullptr && !parts_.device_model->waits()) {
    return failed(absl::InternalError("its device model has a state already, and loads only one"));
  }
  // The context brings its processors up: if somebody has unpaused it they would run before the
  // register says that they may.
  const absl::StatusOr<DomainState> now = parts_.host->StateOf(parts_.domid);
  absl::Status set = now.status();
  if (set.ok() && *now == DomainState::kRunning) set = parts_.host->Pause(parts_.domid);
  if (set.ok()) set = parts_.host->SetTsc(parts_.domid, parsed->tsc);
  if (set.ok()) set = SetGuestParams(*parsed);
  if (set.ok()) set = parts_.host->SetHvmContext(parts_.domid, parsed->hvm_context);
  // Last, as the toolstack does it: what the devices assert is asserted in the new context.
  if (set.ok() && parts_.device_model != nullptr) {
    set = parts_.device_model->Give(parsed->device_model, TimeLimit(kDeviceModelPatience));
  }
  return set.ok() ? set : failed(set);
}

absl::Status XenReplica::SetGuestParams(const XenState& state) {
  for (const uint64_t index : kGuestParams) {
    const uint64_t value = state.Param(index);
    if (value == params_set_.Param(index)) continue;
    HAVEN_RETURN_IF_ERROR(parts_.host->SetHvmParam(parts_.domid, {index, value}));
  }
  params_set_ = state;
  params_set_.hvm_context = {};  // A view of what the caller soon takes away.
  return absl::OkStatus();
}

// It would only act after its read of our pipe has come back, which it does not any more. Waiting
// until it is dead would take several times as long as all the rest.
absl::Status XenReplica::Outlive() {
  const absl::Status killed = parts_.toolstack->Kill();
  if (killed.ok()) return killed;
  return absl::InternalError(
      absl::StrCat("the copy of guest ", parts_.config.name, ": ", killed.message()));
}

absl::Status XenReplica::Run() {
  if (running_) return absl::OkStatus();
  const Clock& clock = SystemClock::Get();
  const int64_t begun_ns = clock.NowNs();
  const auto failed = [&](const absl::Status& cause) {
    return absl::InternalError(absl::StrCat("it is not known whether guest ", parts_.config.name,
                                            " runs as domain ", parts_.domid, ": ",
                                            cause.message()));
  };
  // It may have died since it was given its state. The register names this host by now, so there is
  // no way back; the operator is told why the guest will stand still.
  if (parts_.device_model != nullptr) {
    const absl::Status alive = parts_.device_model->Check();
    if (!alive.ok()) {
      HAVEN_LOG(kError, "xen") << "guest " << parts_.config.name << ", domain " << parts_.domid
                               << ", is let run, but " << std::string(alive.message());
    }
  }
  const absl::Status alone = Outlive();
  if (!alone.ok()) return failed(alone);
  absl::StatusOr<DomainState> now = parts_.host->StateOf(parts_.domid);
  // A host with one processor gives it to the guest from here on: the guest runs before we see it.
  const int64_t unpaused_ns = clock.NowNs();
  if (now.ok() && *now == DomainState::kWaiting) {
    const absl::Status unpaused = parts_.host->Unpause(parts_.domid);
    if (!unpaused.ok()) return failed(unpaused);
    now = parts_.host->StateOf(parts_.domid);
  }
  if (!now.ok()) return failed(now.status());
  if (*now == DomainState::kGone) {
    return absl::NotFoundError(absl::StrCat("the copy of guest ", parts_.config.name, ", domain ",
                                            parts_.domid,
                                            ", was destroyed by somebody else and never runs"));
  }
  if (*now != DomainState::kRunning) return failed(absl::InternalError("it is still paused"));
  running_ = true;
  HAVEN_LOG(kInfo, "xen") << "guest " << parts_.config.name << " runs as domain " << parts_.domid
                          << ": unpaused_us=" << (unpaused_ns - begun_ns) / kNsPerUs
                          << " seen_us=" << (clock.NowNs() - begun_ns) / kNsPerUs;
  // Its socket serves one client at a time: whoever protects the guest next is that one. After the
  // unpause, as nothing of it needs to stand on the guest's way.
  parts_.device_model.reset();
  after_run_ =
      std::make_unique<AfterRun>(std::move(parts_.host), parts_.domid, std::move(parts_.config));
  return absl::OkStatus();
}

absl::Status XenReplica::Abandon() {
  if (running_) {
    return absl::FailedPreconditionError(
        absl::StrCat("domain ", parts_.domid, " was let run and is no copy any more"));
  }
  if (abandoned_) return absl::OkStatus();
  // A domain with a page that somebody has mapped does not go away.
  mapping_.reset();
  // It spins until it is destroyed, which is next.
  parts_.device_model.reset();
  // The toolstack's process, if it still lives, destroys the copy with all that belongs to it.
  parts_.toolstack->CloseStdin();
  if (!parts_.toolstack->Wait(TimeLimit(parts_.options.destroy_timeout)).ok()) {
    HAVEN_RETURN_IF_ERROR(parts_.toolstack->Kill());
  }
  HAVEN_ASSIGN_OR_RETURN(const DomainState left, parts_.host->StateOf(parts_.domid));
  if (left != DomainState::kGone) {
    HAVEN_RETURN_IF_ERROR(
        DestroyLeftCopy(*parts_.host, parts_.options, parts_.config.name, parts_.domid));
  }
  abandoned_ = true;
  return absl::OkStatus();
}

absl::Status DestroyLeftCopy(ReplicaHost& host, const XenReplicaOptions& options,
                             const std::string& guest, uint32_t domid) {
  std::vector<std::string> command = options.toolstack;
  command.push_back("destroy");
  command.push_back(absl::StrCat(domid));
  absl::StatusOr<std::unique_ptr<ToolstackChild>> toolstack =
      ToolstackChild::Start(std::move(command));
  if (toolstack.ok()) {
    (*toolstack)->Wait(TimeLimit(options.destroy_timeout)).status().IgnoreError();
  }
  HAVEN_ASSIGN_OR_RETURN(const DomainState left, host.StateOf(domid));
  if (left == DomainState::kGone) return absl::OkStatus();
  HAVEN_LOG(kWarning, "xen") << "guest " << guest
                             << ": the toolstack does not destroy its copy, domain " << domid
                             << "; destroyed without it, its devices may be left";
  return host.Destroy(domid);
}

}  // namespace haven
