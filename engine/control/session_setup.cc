// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_setup.h"

#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/control/beat_lane.h"
#include "engine/control/message_io.h"
#include "engine/replica/features.h"
#include "engine/replica/ram_run.h"

namespace haven {

namespace {

constexpr absl::Duration kRefuseTimeout = absl::Milliseconds(200);

absl::StatusOr<Hello> HearHello(ControlChannel& channel, const TimeLimit& limit) {
  HAVEN_ASSIGN_OR_RETURN(const std::shared_ptr<Cancel> never, Cancel::Create());
  HAVEN_ASSIGN_OR_RETURN(ControlMessage first, HearFirst(channel, limit, *never));
  if (auto* hello = std::get_if<Hello>(&first)) return std::move(*hello);
  return RefusePeer(channel, RefuseCode::kNotReady,
                    absl::DataLossError(
                        absl::StrCat(channel.Describe(), " begins with ", ControlMessageName(first),
                                     ": there is no session here, say Hello first")));
}

absl::StatusOr<std::shared_ptr<BackupMemory>> RegisterMemory(Transport& transport,
                                                             ControlChannel& channel,
                                                             const JournalGeometry& geometry) {
  auto memory = std::make_shared<BackupMemory>();
  HAVEN_ASSIGN_OR_RETURN(memory->endpoint, transport.MakeEndpoint(channel));
  HAVEN_ASSIGN_OR_RETURN(memory->journal, memory->endpoint->Register(geometry.total_bytes(),
                                                                     RegionAccess::kRemoteWrite));
  HAVEN_ASSIGN_OR_RETURN(memory->scratch, memory->endpoint->Register(BackupBeatLane::kScratchBytes,
                                                                     RegionAccess::kLocal));
  return memory;
}

absl::Status CheckReplica(const HelloDomain& domain, const ReplicaDomain& replica) {
  const GuestMemory& memory = replica.memory();
  if (memory.page_count() < domain.page_count) {
    return absl::InternalError(absl::StrCat("the copy of guest ", domain.name, " has ",
                                            memory.page_count(), " frames, the original ",
                                            domain.page_count));
  }
  for (const RamRun& run : domain.ram) {
    const Gfn hole = FirstNotRam(memory, run.first_gfn, run.pages);
    if (hole == run.first_gfn + run.pages) continue;
    return absl::InternalError(absl::StrCat("the copy of guest ", domain.name,
                                            " has no RAM at frame ", hole,
                                            ", where the original has"));
  }
  return absl::OkStatus();
}

absl::Status BuildReplicas(ReplicaFactory& factory, SessionSetup* setup) {
  for (const HelloDomain& domain : setup->terms.domains) {
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ReplicaDomain> replica, factory.Build(domain));
    HAVEN_RETURN_IF_ERROR(CheckReplica(domain, *replica));
    setup->replicas.push_back(std::move(replica));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RefusePeer(ControlChannel& channel, RefuseCode code, const absl::Status& cause) {
  SendMessage(channel, Refuse{code, std::string(cause.message())}, kRefuseTimeout).IgnoreError();
  return cause;
}

absl::StatusOr<SessionSetup> SetUpSession(Transport& transport, const SetupOptions& options,
                                          ReplicaFactory& factory, int connection) {
  SessionSetup setup;
  const TimeLimit limit(options.hello_timeout);
  HAVEN_ASSIGN_OR_RETURN(setup.channel, transport.Adopt(connection, limit.Remaining()));
  ControlChannel& channel = *setup.channel;
  HAVEN_ASSIGN_OR_RETURN(setup.hello, HearHello(channel, limit));
  const auto refused = [&](const Refuse& refuse) {
    SendMessage(channel, refuse, kRefuseTimeout).IgnoreError();
    return absl::FailedPreconditionError(
        absl::StrCat("group ", setup.hello.group, " of node ", setup.hello.node_id, " is refused (",
                     RefuseCodeName(refuse.code), "): ", refuse.message));
  };
  TermsDecision decision = DecideTerms(setup.hello, options.offer, options.journal);
  if (!decision.terms.has_value()) return refused(decision.refuse);
  setup.terms = *std::move(decision.terms);
  if (IsSealed(setup.terms.agreement.features)) {
    const absl::StatusOr<ChannelKey> key = channel.ExportKey(setup.hello.session);
    if (!key.ok()) return RefusePeer(channel, RefuseCode::kFeature, key.status());
    setup.seal_key = *key;
  }
  if (options.admit != nullptr) {
    const std::optional<Refuse> refuse = options.admit(setup.hello);
    if (refuse.has_value()) return refused(*refuse);
  }
  absl::StatusOr<std::shared_ptr<BackupMemory>> memory =
      RegisterMemory(transport, channel, setup.terms.geometry);
  if (!memory.ok()) return RefusePeer(channel, RefuseCode::kMemory, memory.status());
  setup.memory = *std::move(memory);
  const absl::Status built = BuildReplicas(factory, &setup);
  if (!built.ok()) {
    const RefuseCode code =
        absl::IsResourceExhausted(built) ? RefuseCode::kMemory : RefuseCode::kDomain;
    return RefusePeer(channel, code, built);
  }
  return setup;
}

}  // namespace haven
