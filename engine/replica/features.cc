// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/features.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status CheckOffer(absl::string_view whose, const FeatureOffer& offer) {
  if (offer.version_min == 0 || offer.version_min > offer.version_max) {
    return absl::InvalidArgumentError(absl::StrCat("feature offer of ", whose, ": versions are ",
                                                   offer.version_min, " .. ", offer.version_max,
                                                   ", must be an ascending range from 1 on"));
  }
  const uint64_t both = offer.required & offer.optional;
  if (both != 0) {
    return absl::InvalidArgumentError(absl::StrCat("feature offer of ", whose, ": bit ",
                                                   std::countr_zero(both),
                                                   " is both required and optional"));
  }
  return absl::OkStatus();
}

// OK unless `required` has a bit that `spoken` lacks.
absl::Status CheckRequired(absl::string_view by, uint64_t required, absl::string_view other,
                           uint64_t spoken) {
  const uint64_t missing = required & ~spoken;
  if (missing == 0) return absl::OkStatus();
  const unsigned bit = static_cast<unsigned>(std::countr_zero(missing));
  const absl::string_view name = FeatureName(bit);
  return absl::FailedPreconditionError(
      absl::StrCat("feature bit ", bit, " (", name.empty() ? "without a name here" : name,
                   ") is required by ", by, " and not spoken by ", other,
                   ": run the same release on both sides, or switch the feature off"));
}

}  // namespace

absl::string_view FeatureName(unsigned bit) {
  if (bit > 63) return "";
  switch (static_cast<Feature>(uint64_t{1} << bit)) {
    case Feature::kChangedBlocks:
      return "changed-blocks";
    case Feature::kSameAs:
      return "same-as";
    case Feature::kCompression:
      return "compression";
    case Feature::kSeal:
      return "seal";
    case Feature::kPackedLiterals:
      return "packed-literals";
  }
  return "";
}

bool VersionsOverlap(const FeatureOffer& peer, const FeatureOffer& own) {
  return peer.version_min <= own.version_max && own.version_min <= peer.version_max;
}

absl::StatusOr<FeatureAgreement> NegotiateFeatures(const FeatureOffer& peer,
                                                   const FeatureOffer& own) {
  HAVEN_RETURN_IF_ERROR(CheckOffer("the peer", peer));
  HAVEN_RETURN_IF_ERROR(CheckOffer("this side", own));
  if (!VersionsOverlap(peer, own)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no common format version: the peer speaks ", peer.version_min, " .. ", peer.version_max,
        ", this side ", own.version_min, " .. ", own.version_max, ": upgrade the older side"));
  }
  const uint64_t peer_spoken = peer.required | peer.optional;
  const uint64_t own_spoken = own.required | own.optional;
  HAVEN_RETURN_IF_ERROR(CheckRequired("the peer", peer.required, "this side", own_spoken));
  HAVEN_RETURN_IF_ERROR(CheckRequired("this side", own.required, "the peer", peer_spoken));
  return FeatureAgreement{.version = std::min(peer.version_max, own.version_max),
                          .features = peer_spoken & own_spoken};
}

}  // namespace haven
