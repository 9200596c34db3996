// SPDX-License-Identifier: Apache-2.0
#include "bench/codec_cases.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/codec/codec_mode.h"

namespace haven {
namespace {

std::string Sized(const std::string& step, unsigned shift) {
  return absl::StrCat(step, " ", 1u << shift);
}

CodecSettings ModeSettings(CodecMode mode) { return ChoiceOf(mode, CodecLevel::kOff).settings; }

// Steps between those of the ablation.
std::vector<CodecCase> PartCases(unsigned shift) {
  const CodecSettings fgbi = ModeSettings(CodecMode::kFgbi);
  std::vector<CodecCase> cases;
  CodecSettings runs = fgbi;
  runs.byte_runs = true;
  cases.push_back({Sized("fgbi+runs", shift), shift, true, runs});
  for (const Compression method : {Compression::kLz4, Compression::kZstd}) {
    CodecSettings compressed = fgbi;
    compressed.compression = method;
    cases.push_back(
        {Sized(absl::StrCat("fgbi+", CompressionName(method)), shift), shift, true, compressed});
  }
  cases.push_back({Sized("fgbi+igzip", shift), shift, true, fgbi, true});
  cases.push_back(
      {Sized("level blocks+igzip", shift), shift, true, LevelSettings(CodecLevel::kBlocks), true});
  return cases;
}

// What leaving the zero words of the literals out is worth.
std::vector<CodecCase> UnpackedCases(unsigned shift) {
  std::vector<CodecCase> cases;
  for (const CodecLevel level : {CodecLevel::kLz4, CodecLevel::kDense}) {
    CodecSettings settings = LevelSettings(level);
    settings.packing = false;
    cases.push_back({Sized(absl::StrCat("level ", CodecLevelName(level), " unpacked"), shift),
                     shift, true, settings});
  }
  return cases;
}

void Append(std::vector<CodecCase> more, std::vector<CodecCase>* cases) {
  for (CodecCase& one : more) cases->push_back(std::move(one));
}

}  // namespace

std::vector<CodecCase> LevelCases(unsigned shift) {
  std::vector<CodecCase> cases;
  for (const CodecLevel level : {CodecLevel::kBlocks, CodecLevel::kLz4, CodecLevel::kDense}) {
    cases.push_back({Sized(absl::StrCat("level ", CodecLevelName(level)), shift), shift, true,
                     LevelSettings(level)});
  }
  return cases;
}

std::vector<CodecCase> AllCases() {
  std::vector<CodecCase> cases;
  for (unsigned shift = kMinBlockShift; shift <= kMaxBlockShift; ++shift) {
    cases.push_back({Sized("hash", shift), shift, false, ModeSettings(CodecMode::kFgbi)});
    for (const CodecMode mode :
         {CodecMode::kFgbi, CodecMode::kSharing, CodecMode::kCompression, CodecMode::kBoth}) {
      cases.push_back({Sized(CodecModeName(mode), shift), shift, true, ModeSettings(mode)});
    }
    Append(LevelCases(shift), &cases);
    Append(PartCases(shift), &cases);
  }
  Append(UnpackedCases(kMinBlockShift), &cases);
  return cases;
}

}  // namespace haven
