// SPDX-License-Identifier: Apache-2.0
#include "engine/control/session_terms.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"

namespace haven {

namespace {

uint64_t RoundUp(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

// Refuse or agreement.
std::variant<Refuse, FeatureAgreement> Agree(const Hello& hello, const FeatureOffer& own) {
  const absl::StatusOr<FeatureAgreement> agreement = NegotiateFeatures(hello.offer, own);
  if (agreement.ok()) return *agreement;
  const RefuseCode code =
      VersionsOverlap(hello.offer, own) ? RefuseCode::kFeature : RefuseCode::kVersion;
  return Refuse{code, std::string(agreement.status().message())};
}

// Refuse or geometry. Counted in slots: no size in bytes that an operator can write overflows.
std::variant<Refuse, JournalGeometry> SizeJournal(const Hello& hello,
                                                  const JournalOptions& options) {
  const uint64_t epoch = hello.max_epoch_slots;
  const uint64_t slot = hello.slot_bytes;
  const uint64_t both = 2 * epoch;
  const uint64_t wanted_ring = options.ring_bytes == 0 ? both : options.ring_bytes / slot;
  const uint64_t ring = std::max<uint64_t>(wanted_ring, kMinRingSlots);
  const uint64_t missing = both > ring ? both - ring : 0;
  const uint64_t beyond = epoch > ring ? epoch - ring : 0;
  // One epoch may use kMaxEpochExtents extents: they have to be large enough.
  const uint64_t extent =
      std::max<uint64_t>(kDefaultExtentSlots, (beyond + kMaxEpochExtents - 1) / kMaxEpochExtents);
  const uint64_t pool = RoundUp(std::max(missing, options.pool_bytes / slot), extent);
  const uint64_t allowed_bytes = std::min(options.max_bytes, kMaxJournalBytes);
  const uint64_t allowed =
      allowed_bytes > kControlBlockBytes ? (allowed_bytes - kControlBlockBytes) / slot : 0;
  if (ring + pool > allowed) {
    return Refuse{
        RefuseCode::kGeometry,
        absl::StrCat("a journal for epochs of ", epoch, " slots of ", slot, " bytes needs ",
                     ring + pool, " slots; this backup allows ", allowed, " (", allowed_bytes,
                     " bytes): allow more there, or make the primary's staging smaller")};
  }
  JournalGeometry geometry;
  geometry.slot_bytes = hello.slot_bytes;
  geometry.ring_slots = static_cast<uint32_t>(ring);
  geometry.pool_slots = static_cast<uint32_t>(pool);
  geometry.extent_slots = static_cast<uint32_t>(extent);
  const absl::Status valid = geometry.Validate();
  if (!valid.ok()) return Refuse{RefuseCode::kGeometry, std::string(valid.message())};
  return geometry;
}

// Two states of each guest, and in pages that are written or referred to (EpochPageSet) twice a bit
// and half a bit for each. Its numbers are the primary's word, and memory is taken for them before
// anything of the guests has arrived.
std::optional<Refuse> CheckBeside(const Hello& hello, const JournalOptions& options) {
  uint64_t bytes = 0;
  for (const HelloDomain& domain : hello.domains) {
    bytes += 2 * uint64_t{domain.max_state_bytes} + domain.page_count * 3 / 8;
  }
  if (bytes <= options.max_bytes) return std::nullopt;
  return Refuse{RefuseCode::kMemory,
                absl::StrCat("states and page tables of these guests need ", bytes,
                             " bytes beside the journal; this backup allows ", options.max_bytes,
                             ": allow more there (--journal-bytes)")};
}

}  // namespace

std::optional<Refuse> CheckCovers(const JournalGeometry& geometry, uint64_t max_epoch_slots) {
  const uint64_t reach =
      geometry.ring_slots +
      std::min<uint64_t>(geometry.pool_slots, uint64_t{kMaxEpochExtents} * geometry.extent_slots);
  const uint64_t covered = std::min<uint64_t>(reach, geometry.slots() / 2);
  if (max_epoch_slots <= covered) return std::nullopt;
  return Refuse{RefuseCode::kGeometry,
                absl::StrCat("epochs of up to ", max_epoch_slots,
                             " slots do not fit a journal that ", "covers epochs of ", covered,
                             ": make the primary's staging smaller, "
                             "or end this replica and let a new one be made")};
}

TermsDecision DecideTerms(const Hello& hello, const FeatureOffer& own,
                          const JournalOptions& journal) {
  TermsDecision decision;
  const std::variant<Refuse, FeatureAgreement> agreed = Agree(hello, own);
  if (const auto* refuse = std::get_if<Refuse>(&agreed)) {
    decision.refuse = *refuse;
    return decision;
  }
  if (std::optional<Refuse> refuse = CheckBeside(hello, journal)) {
    decision.refuse = *std::move(refuse);
    return decision;
  }
  const std::variant<Refuse, JournalGeometry> sized = SizeJournal(hello, journal);
  if (const auto* refuse = std::get_if<Refuse>(&sized)) {
    decision.refuse = *refuse;
    return decision;
  }
  decision.terms = SessionTerms{.group = hello.group,
                                .agreement = std::get<FeatureAgreement>(agreed),
                                .geometry = std::get<JournalGeometry>(sized),
                                .domains = hello.domains};
  return decision;
}

std::optional<Refuse> CheckAgainstTerms(const Hello& hello, const FeatureOffer& own,
                                        const SessionTerms& terms) {
  if (hello.group != terms.group) {
    return Refuse{RefuseCode::kAuth,
                  absl::StrCat("this process serves group ", terms.group, ", not ", hello.group)};
  }
  const std::variant<Refuse, FeatureAgreement> agreed = Agree(hello, own);
  if (const auto* refuse = std::get_if<Refuse>(&agreed)) return *refuse;
  if (std::get<FeatureAgreement>(agreed) != terms.agreement) {
    return Refuse{RefuseCode::kFeature, "this replica was made for another set of features"};
  }
  if (hello.slot_bytes != terms.geometry.slot_bytes) {
    return Refuse{RefuseCode::kGeometry,
                  absl::StrCat("slots of ", hello.slot_bytes, " bytes; this replica's journal has ",
                               terms.geometry.slot_bytes)};
  }
  if (hello.domains != terms.domains) {
    return Refuse{RefuseCode::kDomain,
                  "the guests are not those for which this replica was made (their number, names, "
                  "configuration or memory differ)"};
  }
  return CheckCovers(terms.geometry, hello.max_epoch_slots);
}

}  // namespace haven
