// SPDX-License-Identifier: Apache-2.0
//
// What an operator may say about the codec, and what each choice switches on.
#ifndef HAVEN_ENGINE_CODEC_CODEC_MODE_H_
#define HAVEN_ENGINE_CODEC_CODEC_MODE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/codec/codec_policy.h"
#include "engine/codec/page_codec.h"

namespace haven {

// The last four are the steps of the HAVEN papers' ablation: FGBI bare, with sharing, with
// compression, with both. So that they show what each step is worth, sharing never rests in them.
enum class CodecMode : uint8_t {
  kOff,     // Pages as they are.
  kAuto,    // CodecPolicy chooses.
  kBlocks,  // One level of the policy, always.
  kLz4,
  kDense,
  kFgbi,
  kSharing,
  kCompression,
  kBoth,
};

// "off", "auto", "blocks", "lz4", "dense", "fgbi", "sharing", "compression", "both".
const char* CodecModeName(CodecMode mode);
// InvalidArgument lists the names.
absl::StatusOr<CodecMode> ParseCodecMode(absl::string_view name);
// All names, for --help.
std::string CodecModeNames();

// What is on at a level, which is not kOff (checked).
CodecSettings LevelSettings(CodecLevel level);

// What a mode stands for: a level, and what is on if the level is not kOff. `automatic` is the
// level of kAuto, which the policy chose for the epoch.
struct CodecChoice {
  CodecLevel level = CodecLevel::kOff;
  CodecSettings settings;
};
CodecChoice ChoiceOf(CodecMode mode, CodecLevel automatic);

// The choice as far as the features agreed on allow it (features.h): without changed-blocks there
// is no codec, without the others it goes without sharing, compression or packed literals.
CodecChoice Restrict(CodecChoice choice, uint64_t features);

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODEC_MODE_H_
