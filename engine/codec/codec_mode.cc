// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/codec_mode.h"

#include <array>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/check.h"
#include "engine/replica/features.h"

namespace haven {
namespace {

constexpr std::array<const char*, 9> kNames = {"off",  "auto",    "blocks",      "lz4", "dense",
                                               "fgbi", "sharing", "compression", "both"};

bool Has(uint64_t features, Feature feature) {
  return (features & static_cast<uint64_t>(feature)) != 0;
}

}  // namespace

const char* CodecModeName(CodecMode mode) { return kNames[static_cast<size_t>(mode)]; }

absl::StatusOr<CodecMode> ParseCodecMode(absl::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<CodecMode>(i);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("codec \"", name, "\": one of ", CodecModeNames(), " is wanted"));
}

std::string CodecModeNames() { return absl::StrJoin(kNames, ", "); }

CodecSettings LevelSettings(CodecLevel level) {
  HAVEN_CHECK(level != CodecLevel::kOff);
  CodecSettings settings;
  if (level == CodecLevel::kLz4) settings.compression = Compression::kLz4;
  if (level == CodecLevel::kDense) settings.compression = Compression::kZstd;
  return settings;
}

CodecChoice ChoiceOf(CodecMode mode, CodecLevel automatic) {
  const auto level = [](CodecLevel chosen) {
    CodecChoice choice;
    choice.level = chosen;
    if (chosen != CodecLevel::kOff) choice.settings = LevelSettings(chosen);
    return choice;
  };
  const auto step = [](CodecLevel chosen, bool sharing, Compression compression) {
    return CodecChoice{.level = chosen,
                       .settings = {.changed_blocks = true,
                                    .byte_runs = compression != Compression::kNone,
                                    .sharing = sharing,
                                    .sharing_rests = false,
                                    .compression = compression}};
  };
  switch (mode) {
    case CodecMode::kOff:
      return {};
    case CodecMode::kAuto:
      return level(automatic);
    case CodecMode::kBlocks:
      return level(CodecLevel::kBlocks);
    case CodecMode::kLz4:
      return level(CodecLevel::kLz4);
    case CodecMode::kDense:
      return level(CodecLevel::kDense);
    case CodecMode::kFgbi:
      return step(CodecLevel::kBlocks, false, Compression::kNone);
    case CodecMode::kSharing:
      return step(CodecLevel::kBlocks, true, Compression::kNone);
    case CodecMode::kCompression:
      return step(CodecLevel::kDense, false, Compression::kZstd);
    case CodecMode::kBoth:
      return step(CodecLevel::kDense, true, Compression::kZstd);
  }
  HAVEN_CHECK(false) << "no such mode";
  return {};
}

CodecChoice Restrict(CodecChoice choice, uint64_t features) {
  if (!Has(features, Feature::kChangedBlocks)) return {};
  if (!Has(features, Feature::kSameAs)) choice.settings.sharing = false;
  if (!Has(features, Feature::kCompression)) choice.settings.compression = Compression::kNone;
  if (!Has(features, Feature::kPackedLiterals)) choice.settings.packing = false;
  return choice;
}

}  // namespace haven
