// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/register.h"

#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

Register Promotable() {
  return {7, "host-a", RegisterMode::kPromotable, 0x00112233445566aa, true, 0x8899aabbccddeeff};
}

constexpr absl::string_view kPromotableText =
    "haven1 term=7 owner=host-a mode=promotable session=00112233445566aa running=yes "
    "stamp=8899aabbccddeeff";

std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<Register> value = ParseRegister(text);
  EXPECT_FALSE(value.ok()) << text;
  EXPECT_TRUE(absl::IsInvalidArgument(value.status())) << value.status();
  return std::string(value.status().message());
}

TEST(RegisterTest, HasTheStatedText) {
  EXPECT_EQ(FormatRegister(Promotable()), kPromotableText);
  EXPECT_EQ(ParseRegister(kPromotableText).value(), Promotable());
}

TEST(RegisterTest, NamesItsModes) {
  EXPECT_EQ(RegisterModeName(RegisterMode::kNone), "none");
  EXPECT_EQ(RegisterModeName(RegisterMode::kPromotable), "promotable");
  EXPECT_EQ(RegisterModeName(RegisterMode::kSolo), "solo");
}

TEST(RegisterTest, EveryValidValueComesBack) {
  const std::vector<Register> values = {
      {0, "a", RegisterMode::kNone, 0, true, 1},
      {1, "A.b_c-9", RegisterMode::kSolo, 0, false, std::numeric_limits<uint64_t>::max()},
      {std::numeric_limits<uint64_t>::max(), std::string(63, 'x'), RegisterMode::kPromotable,
       std::numeric_limits<uint64_t>::max(), false, 0xdeadbeef},
      {1, "-", RegisterMode::kPromotable, 1, true, 1},
  };
  for (const Register& value : values) {
    const std::string text = FormatRegister(value);
    EXPECT_LE(text.size(), 512u);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const absl::StatusOr<Register> parsed = ParseRegister(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, value);
  }
}

TEST(RegisterTest, AnyDifferenceMakesAnotherValue) {
  const Register value = Promotable();
  std::vector<Register> others(6, value);
  others[0].term = 8;
  others[1].owner = "host-b";
  others[2].mode = RegisterMode::kSolo;
  others[3].session = 1;
  others[4].running = false;
  others[5].stamp = 1;
  for (const Register& other : others) {
    EXPECT_FALSE(value == other);
    EXPECT_NE(FormatRegister(value), FormatRegister(other));
  }
}

TEST(RegisterTest, WrongTextIsRefusedByFieldAndText) {
  const struct {
    std::string from;
    std::string to;
    std::string error;
  } cases[] = {
      {"haven1", "haven2", "starts with 'haven2'"},
      {"haven1 ", "", "starts with 'term=7'"},
      {"haven1 ", "haven1  ", "has '' where term=... belongs"},
      {"term=7", "term=", "term=''"},
      {"term=7", "term=+7", "term='+7'"},
      {"term=7", "term=-7", "term='-7'"},
      {"term=7", "term=07", "term='07'"},
      {"term=7", "term=7.0", "term='7.0'"},
      {"term=7", "term=18446744073709551616", "term='18446744073709551616'"},
      {"term=7", "term", "has 'term' where term=... belongs"},
      {"term=7 ", "", "term is missing before owner"},
      {"term=7", "term=7 term=7", "term is repeated"},
      {"term=7", "Term=7", "unknown field 'Term=7'"},
      {"owner=host-a", "owner=", "owner='': must have 1 to 63 bytes"},
      {"owner=host-a", "owner=host/a", "owner='host/a'"},
      {"owner=host-a", "owner=h\xc3\xb6st", "owner='h\\xc3\\xb6st'"},
      {"owner=host-a", "owner=host a", "has 'a' where mode=... belongs"},
      {"owner=host-a", "owner=host-a lives=9", "unknown field 'lives=9'"},
      {"mode=promotable", "mode=Promotable", "mode='Promotable'"},
      {"mode=promotable", "mode=", "mode=''"},
      {"mode=promotable", "mode=solo", "only mode promotable names a session"},
      {"mode=promotable", "mode=none", "only mode promotable names a session"},
      {"session=00112233445566aa", "session=0000000000000000", "must name a session"},
      {"session=00112233445566aa", "session=00112233445566AA", "hexadecimal"},
      {"session=00112233445566aa", "session=112233445566aa", "hexadecimal"},
      {"session=00112233445566aa", "session=0x112233445566aa", "hexadecimal"},
      {"session=00112233445566aa", "session=000112233445566aa", "hexadecimal"},
      {"running=yes", "running=true", "running='true'"},
      {"stamp=8899aabbccddeeff", "stamp=0000000000000000", "must not be 0"},
      {"stamp=8899aabbccddeeff", "stamp=", "stamp=''"},
      {" stamp=8899aabbccddeeff", "", "stamp is missing at the end"},
      {"stamp=8899aabbccddeeff", "stamp=8899aabbccddeeff ", "unknown field ''"},
      {"stamp=8899aabbccddeeff", "stamp=8899aabbccddeeff\n", "hexadecimal"},
      {"stamp=8899aabbccddeeff", "stamp=8899aabbccddeeff term=7", "term is repeated"},
      {"running=yes stamp=8899aabbccddeeff", "stamp=8899aabbccddeeff running=yes",
       "running is missing before stamp"},
  };
  for (const auto& [from, to, error] : cases) {
    const std::string text = absl::StrReplaceAll(kPromotableText, {{from, to}});
    ASSERT_NE(text, kPromotableText) << from;
    EXPECT_THAT(ErrorOf(text), HasSubstr(error)) << text;
  }
}

TEST(RegisterTest, OwnersHaveALengthLimit) {
  Register value = Promotable();
  value.owner = std::string(63, 'o');
  EXPECT_TRUE(ParseRegister(FormatRegister(value)).ok());
  value.owner.push_back('o');
  EXPECT_THAT(ErrorOf(FormatRegister(value)), HasSubstr("must have 1 to 63 bytes"));
}

TEST(RegisterTest, EndlessAndBinaryTextIsRefusedWithAShortMessage) {
  for (const std::string& text :
       {std::string(), std::string(" "), std::string(513, ' '), std::string(1 << 20, 'x'),
        std::string(512, '='), std::string(512, '\0'), std::string("haven1"),
        absl::StrCat(kPromotableText, std::string(1, '\0'))}) {
    EXPECT_LT(ErrorOf(text).size(), 600u);
  }
}

TEST(RegisterTest, EveryPrefixAndEverySingleChangedByteIsRefusedOrCanonical) {
  for (size_t size = 0; size < kPromotableText.size(); ++size) {
    EXPECT_FALSE(ParseRegister(kPromotableText.substr(0, size)).ok()) << size;
  }
  for (size_t i = 0; i < kPromotableText.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text(kPromotableText);
      text[i] = static_cast<char>(byte);
      const absl::StatusOr<Register> value = ParseRegister(text);
      // What is accepted has no other text: an arbiter may compare texts instead of values.
      if (value.ok()) {
        EXPECT_EQ(FormatRegister(*value), text);
      }
    }
  }
}

TEST(RegisterTest, RandomTextNeverPasses) {
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text(random.Below(200), '\0');
    for (char& c : text) c = static_cast<char>(random.Below(256));
    EXPECT_FALSE(ParseRegister(text).ok());
    EXPECT_FALSE(ParseRegister(absl::StrCat("haven1 ", text)).ok());
  }
}

TEST(RegisterTest, ValidatesValuesThatHaveNoText) {
  EXPECT_TRUE(ValidateRegister(Promotable()).ok());
  Register value = Promotable();
  value.mode = static_cast<RegisterMode>(9);
  EXPECT_THAT(std::string(ValidateRegister(value).message()), HasSubstr("mode='9'"));
  value = Promotable();
  value.owner = "host a";
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateRegister(value)));
  value = Promotable();
  value.stamp = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateRegister(value)));
}

}  // namespace
}  // namespace haven
