// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/codec_mode.h"

#include <string>

#include "engine/replica/features.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr CodecMode kModes[] = {CodecMode::kOff,     CodecMode::kAuto,        CodecMode::kBlocks,
                                CodecMode::kLz4,     CodecMode::kDense,       CodecMode::kFgbi,
                                CodecMode::kSharing, CodecMode::kCompression, CodecMode::kBoth};

TEST(CodecModeTest, NamesAreRead) {
  for (const CodecMode mode : kModes) {
    const absl::StatusOr<CodecMode> parsed = ParseCodecMode(CodecModeName(mode));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, mode);
  }
  EXPECT_EQ(CodecModeNames(), "off, auto, blocks, lz4, dense, fgbi, sharing, compression, both");
}

TEST(CodecModeTest, OtherWordsAreRefusedWithThoseThatAreKnown) {
  for (const char* word : {"", "on", "FGBI", "auto "}) {
    const absl::Status status = ParseCodecMode(word).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << word;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("off, auto, blocks"));
  }
}

TEST(CodecModeTest, TheStepsOfTheAblation) {
  const auto settings = [](CodecMode mode) { return ChoiceOf(mode, CodecLevel::kOff).settings; };
  EXPECT_FALSE(settings(CodecMode::kFgbi).sharing);
  EXPECT_EQ(settings(CodecMode::kFgbi).compression, Compression::kNone);
  EXPECT_TRUE(settings(CodecMode::kSharing).sharing);
  EXPECT_EQ(settings(CodecMode::kSharing).compression, Compression::kNone);
  EXPECT_FALSE(settings(CodecMode::kCompression).sharing);
  EXPECT_EQ(settings(CodecMode::kCompression).compression, Compression::kZstd);
  EXPECT_TRUE(settings(CodecMode::kBoth).sharing);
  EXPECT_EQ(settings(CodecMode::kBoth).compression, Compression::kZstd);
  for (const CodecMode mode : kModes) {
    const CodecChoice choice = ChoiceOf(mode, CodecLevel::kOff);
    EXPECT_EQ(choice.level == CodecLevel::kOff,
              mode == CodecMode::kOff || mode == CodecMode::kAuto);
    EXPECT_TRUE(choice.settings.changed_blocks);
  }
  // The steps show what sharing finds; a level gives it up where that is little.
  EXPECT_FALSE(settings(CodecMode::kSharing).sharing_rests);
  EXPECT_FALSE(settings(CodecMode::kBoth).sharing_rests);
  EXPECT_TRUE(settings(CodecMode::kBlocks).sharing && settings(CodecMode::kBlocks).sharing_rests);
  EXPECT_TRUE(settings(CodecMode::kDense).sharing && settings(CodecMode::kDense).sharing_rests);
}

TEST(CodecModeTest, AutoIsWhatThePolicyChose) {
  const CodecChoice choice = ChoiceOf(CodecMode::kAuto, CodecLevel::kLz4);
  EXPECT_EQ(choice.level, CodecLevel::kLz4);
  EXPECT_EQ(choice.settings.compression, Compression::kLz4);
}

TEST(CodecModeTest, FeaturesThatAreMissingAreLeftOut) {
  const CodecChoice both = ChoiceOf(CodecMode::kBoth, CodecLevel::kOff);
  const uint64_t blocks = static_cast<uint64_t>(Feature::kChangedBlocks);
  EXPECT_EQ(Restrict(both, 0).level, CodecLevel::kOff);
  EXPECT_EQ(Restrict(both, kCodecFeatures & ~blocks).level, CodecLevel::kOff);
  EXPECT_FALSE(Restrict(both, blocks).settings.sharing);
  EXPECT_EQ(Restrict(both, blocks).settings.compression, Compression::kNone);
  EXPECT_FALSE(Restrict(both, blocks).settings.packing);
  EXPECT_TRUE(Restrict(both, kCodecFeatures).settings.packing);
  EXPECT_TRUE(Restrict(both, kCodecFeatures).settings.sharing);
  EXPECT_EQ(Restrict(both, kCodecFeatures).settings.compression, Compression::kZstd);
}

}  // namespace
}  // namespace haven
