// SPDX-License-Identifier: Apache-2.0
//
// What a backup agrees to when a primary says Hello (DESIGN.md section 5).
#ifndef HAVEN_ENGINE_CONTROL_SESSION_TERMS_H_
#define HAVEN_ENGINE_CONTROL_SESSION_TERMS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/replica/control_message.h"
#include "engine/replica/features.h"
#include "engine/replica/layout.h"

namespace haven {

// How much memory a journal may take. All in bytes.
struct JournalOptions {
  // Of the whole region, and once more of what is kept beside it for the guests' states and pages;
  // a session that needs more is refused.
  uint64_t max_bytes = uint64_t{8} << 30;
  // 0: room for two of the largest epochs, so that an epoch never waits for the one before it to be
  // applied. Less saves memory; what is missing then lies in the pool.
  uint64_t ring_bytes = 0;
  uint64_t pool_bytes = 0;  // At least; grows with what the ring leaves to it.
};

// What both sides will use for the life of one replica.
struct SessionTerms {
  std::string group;
  FeatureAgreement agreement;
  JournalGeometry geometry;
  std::vector<HelloDomain> domains;
};

// Either `terms` or `refuse`, whose message names the field, its value and the remedy.
struct TermsDecision {
  std::optional<SessionTerms> terms;
  Refuse refuse;
};

// Agrees on the format and sizes the journal for a replica that is to be made: ring and pool hold
// one unapplied and one unacknowledged epoch of hello.max_epoch_slots each, and one epoch alone can
// reach as many slots. A decoded Hello is sound by its own rules.
TermsDecision DecideTerms(const Hello& hello, const FeatureOffer& own,
                          const JournalOptions& journal);

// A later Hello for a replica that is there. nullopt: it fits the terms as they are.
std::optional<Refuse> CheckAgainstTerms(const Hello& hello, const FeatureOffer& own,
                                        const SessionTerms& terms);

// OK if ring and pool cover two epochs of `max_epoch_slots` and one of them can reach all its
// slots; the Refuse otherwise.
std::optional<Refuse> CheckCovers(const JournalGeometry& geometry, uint64_t max_epoch_slots);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SESSION_TERMS_H_
