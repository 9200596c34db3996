// SPDX-License-Identifier: Apache-2.0
//
// The fields of Hello, Welcome and Refuse and the rules that tie them together.
#ifndef HAVEN_ENGINE_REPLICA_HANDSHAKE_FIELDS_H_
#define HAVEN_ENGINE_REPLICA_HANDSHAKE_FIELDS_H_

#include <bit>
#include <cstdint>
#include <limits>

#include "engine/replica/control_message.h"
#include "engine/replica/message_codec.h"

namespace haven {

inline constexpr uint64_t kAnyU64 = std::numeric_limits<uint64_t>::max();
inline constexpr uint32_t kAnyU32 = std::numeric_limits<uint32_t>::max();
inline constexpr uint16_t kAnyU16 = std::numeric_limits<uint16_t>::max();

// OK, or InvalidArgument: `uuid` is not 8-4-4-4-12 lower-case hexadecimal digits.
absl::Status CheckUuid(absl::string_view uuid);

// OK, or InvalidArgument naming a name or uuid that two of the domains have.
absl::Status CheckDistinct(const std::vector<HelloDomain>& domains);

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, HelloDomain>& domain) {
  codec.String("name", domain.name, 1, kMaxDomainNameBytes, StringRule::kPrintable);
  codec.String("uuid", domain.uuid, kUuidBytes, kUuidBytes, StringRule::kPrintable);
  codec.RequireOk("uuid", CheckUuid(domain.uuid));
  codec.String("config", domain.config, 0, kMaxConfigBytes, StringRule::kOpaque);
  codec.Number("page_count", domain.page_count, 1, kMaxDomainPages);
  codec.Number("max_state_bytes", domain.max_state_bytes, 1, kMaxStateBytes);
  Gfn lowest = 0;
  codec.List("ram", domain.ram, 1, kMaxRamRuns, [&](auto& run) {
    codec.Number("first_gfn", run.first_gfn, 0, kAnyU64);
    codec.Number("pages", run.pages, 1, kAnyU64);
    codec.Require(run.first_gfn >= lowest, "first_gfn", run.first_gfn,
                  "ascending, not below the end of the run before");
    codec.Require(run.first_gfn < domain.page_count, "first_gfn", run.first_gfn,
                  "below page_count");
    if (!codec.ok()) return;
    codec.Require(run.pages <= domain.page_count - run.first_gfn, "pages", run.pages,
                  "within page_count");
    lowest = run.first_gfn + run.pages;
  });
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Hello>& hello) {
  codec.Number("version_min", hello.offer.version_min, 1, kAnyU16);
  codec.Number("version_max", hello.offer.version_max, hello.offer.version_min, kAnyU16);
  codec.Number("required_features", hello.offer.required, 0, kAnyU64);
  codec.Number("optional_features", hello.offer.optional, 0, kAnyU64);
  codec.Require((hello.offer.required & hello.offer.optional) == 0, "optional_features",
                hello.offer.optional, "without a bit of required_features");
  codec.String("node_id", hello.node_id, 1, kMaxNodeIdBytes, StringRule::kNodeId);
  codec.String("group", hello.group, 1, kMaxNodeIdBytes, StringRule::kNodeId);
  codec.Number("session", hello.session, 1, kAnyU64);
  codec.Number("base_session", hello.base_session, 0, kAnyU64);
  codec.Number("base_epoch", hello.base_epoch, 0, kAnyU64);
  codec.Require((hello.base_session == kNoSession) == (hello.base_epoch == kNoEpoch), "base_epoch",
                hello.base_epoch, "0 exactly if base_session is 0");
  codec.Require(hello.session != hello.base_session, "base_session", hello.base_session,
                "another than session");
  codec.Number("slot_bytes", hello.slot_bytes, kMinSlotBytes, kMaxSlotBytes);
  codec.Require(std::has_single_bit(hello.slot_bytes), "slot_bytes", hello.slot_bytes,
                "a power of two");
  codec.Number("max_epoch_slots", hello.max_epoch_slots, 1, kAnyU32);
  codec.Number("detect_ns", hello.detect_ns, kMinDetectNs, kMaxDurationNs);
  codec.Number("interval_ns", hello.interval_ns, 0, kMaxDurationNs);
  codec.String("return_address", hello.return_address, 0, kMaxAddressBytes, StringRule::kPrintable);
  codec.List("domains", hello.domains, 1, kMaxDomains,
             [&](auto& domain) { Transfer(codec, domain); });
  if (codec.ok()) codec.RequireOk("domains", CheckDistinct(hello.domains));
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Welcome>& welcome) {
  codec.Number("version", welcome.agreement.version, 1, kAnyU16);
  codec.Number("features", welcome.agreement.features, 0, kAnyU64);
  codec.String("node_id", welcome.node_id, 1, kMaxNodeIdBytes, StringRule::kNodeId);
  codec.Number("session", welcome.session, 1, kAnyU64);
  codec.Number("slot_bytes", welcome.geometry.slot_bytes, 0, kAnyU32);
  codec.Number("ring_slots", welcome.geometry.ring_slots, 0, kAnyU32);
  codec.Number("pool_slots", welcome.geometry.pool_slots, 0, kAnyU32);
  codec.Number("extent_slots", welcome.geometry.extent_slots, 0, kAnyU32);
  if (codec.ok()) codec.RequireOk("geometry", welcome.geometry.Validate());
  codec.Bytes("journal_region", welcome.journal_region, kMaxBlobBytes);
  codec.String("session_address", welcome.session_address, 0, kMaxAddressBytes,
               StringRule::kPrintable);
  codec.Flag("base_accepted", welcome.base_accepted);
  codec.Number("base_epoch", welcome.base_epoch, 0, kAnyU64);
  codec.Require(welcome.base_accepted == (welcome.base_epoch != kNoEpoch), "base_epoch",
                welcome.base_epoch, "0 exactly if base_accepted is 0");
}

template <typename Codec>
void Transfer(Codec& codec, MessageOf<Codec, Refuse>& refuse) {
  codec.Enum("code", refuse.code, RefuseCode::kVersion, RefuseCode::kInternal);
  codec.Text("message", refuse.message, kMaxTextBytes);
}

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_HANDSHAKE_FIELDS_H_
