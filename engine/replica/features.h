// SPDX-License-Identifier: Apache-2.0
//
// Format versions and optional features: what the two sides agree on before anything else
// (DESIGN.md section 5, docs/replica-format.md).
#ifndef HAVEN_ENGINE_REPLICA_FEATURES_H_
#define HAVEN_ENGINE_REPLICA_FEATURES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace haven {

// Versions of the replica format that this build speaks.
inline constexpr uint16_t kFormatVersion = 1;
inline constexpr uint16_t kMinFormatVersion = 1;

// One bit each. A bit once given away is never used for anything else.
enum class Feature : uint64_t {
  kChangedBlocks = uint64_t{1} << 0,   // Frames of changed blocks of a page (FGBI).
  kSameAs = uint64_t{1} << 1,          // Frames that name an equal page instead of carrying it.
  kCompression = uint64_t{1} << 2,     // Frames with compressed bodies.
  kSeal = uint64_t{1} << 3,            // Sealed chunks and commit records (chunk_seal.h).
  kPackedLiterals = uint64_t{1} << 4,  // Compressed bodies without the literals' zero words.
};

// Each lets frames of coded pages say more; with any of them there are such frames.
inline constexpr uint64_t kCodecFeatures =
    static_cast<uint64_t>(Feature::kChangedBlocks) | static_cast<uint64_t>(Feature::kSameAs) |
    static_cast<uint64_t>(Feature::kCompression) | static_cast<uint64_t>(Feature::kPackedLiterals);

// Bits of features that this build implements.
inline constexpr uint64_t kImplementedFeatures =
    kCodecFeatures | static_cast<uint64_t>(Feature::kSeal);

// Those that are used without being asked for.
inline constexpr uint64_t kUsualFeatures = kCodecFeatures;

inline constexpr bool IsSealed(uint64_t features) {
  return (features & static_cast<uint64_t>(Feature::kSeal)) != 0;
}

// "changed-blocks", "same-as", "compression", "seal", "packed-literals"; "" for a bit without a
// name. `bit` is 0 .. 63.
absl::string_view FeatureName(unsigned bit);

// What one side can and must have. A bit in neither mask is one that it does not speak.
struct FeatureOffer {
  uint16_t version_min = kMinFormatVersion;
  uint16_t version_max = kFormatVersion;
  uint64_t required = 0;               // Without these it refuses.
  uint64_t optional = kUsualFeatures;  // These it can use as well.

  friend bool operator==(const FeatureOffer&, const FeatureOffer&) = default;
};

// What both will use.
struct FeatureAgreement {
  uint16_t version = 0;
  uint64_t features = 0;

  friend bool operator==(const FeatureAgreement&, const FeatureAgreement&) = default;
};

// Agrees on the highest common version and on every feature that both sides speak. InvalidArgument:
// an offer is malformed (empty version range, version 0, a bit both required and optional).
// FailedPrecondition: no common version, with both ranges; or a bit that one side requires and the
// other does not speak, with the bit's number, its name and who requires it.
absl::StatusOr<FeatureAgreement> NegotiateFeatures(const FeatureOffer& peer,
                                                   const FeatureOffer& own);

// True if the version ranges of two well-formed offers have a version in common, so that a refusal
// by NegotiateFeatures() is due to a feature and not to the version.
bool VersionsOverlap(const FeatureOffer& peer, const FeatureOffer& own);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_FEATURES_H_
