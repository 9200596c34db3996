// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_register_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr absl::string_view kGroup = "web";

Register Value(RequestId stamp) {
  return {stamp, "host-a", RegisterMode::kPromotable, 0xabc, true, stamp};
}

// The file after a change from Value(1) in slot 0 to Value(2) in slot 1.
std::string ChangedFile() {
  std::string bytes = EncodeRegisterFile(kGroup, Value(1));
  bytes.replace(RegisterSlotOffset(1), kRegisterRecordBytes, EncodeRegisterSlot(Value(2)));
  bytes[RegisterCurrentDigitOffset()] = '1';
  return bytes;
}

std::string ErrorOf(const std::string& bytes, absl::string_view group = kGroup) {
  const absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(group, bytes);
  EXPECT_TRUE(absl::IsDataLoss(content.status())) << content.status();
  return std::string(content.status().message());
}

TEST(RegisterFileTest, AnEmptyFileHoldsNoRegister) {
  EXPECT_EQ(DecodeRegisterFile(kGroup, "")->value, std::nullopt);
}

TEST(RegisterFileTest, ANewFileHoldsItsValueInSlot0) {
  const std::string bytes = EncodeRegisterFile(kGroup, Value(1));
  EXPECT_EQ(bytes.size(), kRegisterFileBytes);
  const absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(kGroup, bytes);
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(content->value, Value(1));
  EXPECT_EQ(content->current_slot, 0);
}

TEST(RegisterFileTest, IsTextThatAnOperatorCanRead) {
  const std::string bytes = EncodeRegisterFile(kGroup, Value(1));
  EXPECT_THAT(bytes, HasSubstr("haven-register-file1 current=0 group=web "));
  EXPECT_THAT(bytes, HasSubstr(FormatRegister(Value(1))));
  EXPECT_EQ(bytes.find('\0'), std::string::npos);
  EXPECT_EQ(bytes.back(), '\n');
}

TEST(RegisterFileTest, TheFlipOfOneByteIsTheChange) {
  std::string bytes = ChangedFile();
  EXPECT_EQ(DecodeRegisterFile(kGroup, bytes)->value, Value(2));
  EXPECT_EQ(DecodeRegisterFile(kGroup, bytes)->current_slot, 1);
  bytes[RegisterCurrentDigitOffset()] = '0';
  EXPECT_EQ(DecodeRegisterFile(kGroup, bytes)->value, Value(1));
  EXPECT_EQ(RegisterCurrentDigitOffset() / kRegisterRecordBytes, 0u);
}

TEST(RegisterFileTest, AWriteCutShortAtAnyByteLeavesTheOldValue) {
  const std::string before = EncodeRegisterFile(kGroup, Value(1));
  const std::string slot = EncodeRegisterSlot(Value(2));
  ASSERT_EQ(slot.size(), kRegisterRecordBytes);
  for (size_t written = 0; written <= slot.size(); ++written) {
    std::string bytes = before;
    bytes.replace(RegisterSlotOffset(1), written, slot, 0, written);
    const absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(kGroup, bytes);
    ASSERT_TRUE(content.ok()) << written << ": " << content.status();
    EXPECT_EQ(content->value, Value(1));
  }
}

TEST(RegisterFileTest, AFileOfAnotherSizeIsDamaged) {
  const std::string bytes = ChangedFile();
  for (size_t size = 1; size < bytes.size(); ++size) {
    EXPECT_THAT(ErrorOf(bytes.substr(0, size)), HasSubstr(absl::StrCat(size, " bytes instead")));
  }
  EXPECT_THAT(ErrorOf(bytes + "x"), HasSubstr("bytes instead"));
}

TEST(RegisterFileTest, AFileOfAnotherGroupIsDamaged) {
  EXPECT_THAT(ErrorOf(ChangedFile(), "web2"), HasSubstr("not that of group web2"));
  EXPECT_THAT(ErrorOf(ChangedFile(), "WEB"), HasSubstr("group=web"));
}

TEST(RegisterFileTest, EveryChangedByteOfHeaderAndCurrentSlotIsSeen) {
  const std::string good = ChangedFile();
  for (size_t i = 0; i < good.size(); ++i) {
    const bool other_slot = i >= RegisterSlotOffset(0) && i < RegisterSlotOffset(1);
    for (const int flip : {0x01, 0x80}) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ flip);
      const absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(kGroup, bytes);
      if (other_slot) {
        EXPECT_EQ(content->value, Value(2));
      } else if (i == RegisterCurrentDigitOffset() && flip == 0x01) {
        // '1' became '0'; one byte can not be told from a change that did not happen.
        EXPECT_EQ(content->value, Value(1));
      } else {
        EXPECT_TRUE(absl::IsDataLoss(content.status())) << "byte " << i;
      }
    }
  }
}

TEST(RegisterFileTest, AnEmptyCurrentSlotIsDamaged) {
  std::string bytes = EncodeRegisterFile(kGroup, Value(1));
  bytes[RegisterCurrentDigitOffset()] = '1';
  EXPECT_THAT(ErrorOf(bytes), HasSubstr("slot 1 of the register file is too short"));
}

TEST(RegisterFileTest, GarbageIsDamaged) {
  Random random(1);
  std::string bytes(kRegisterFileBytes, '\0');
  ErrorOf(bytes);
  for (int i = 0; i < 100; ++i) {
    for (char& c : bytes) c = static_cast<char>(random.Below(256));
    EXPECT_LT(ErrorOf(bytes).size(), 1000u);
  }
}

}  // namespace
}  // namespace haven
