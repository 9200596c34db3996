// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/guests.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NameGuests, KnowsTheKinds) {
  const auto named = NameGuests({"synthetic:name=a", "synthetic:name=b,mem=16M"});
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_THAT(*named, ElementsAre("synthetic:a", "synthetic:b"));
  for (const char* word : {"", "a", "kvm:a", "xen", "Xen:a"}) {
    const absl::Status status = NameGuests({word}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << word;
    EXPECT_THAT(std::string(status.message()), HasSubstr("xen:NAME")) << word;
  }
}

TEST(NameGuests, AGroupHasOneKind) {
  const absl::Status status = NameGuests({"synthetic:name=a", "xen:b"}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("of one kind"));
}

TEST(AttachNodeGuests, ARecordWithMoreThanOneKindIsNotBelieved) {
  const GroupDirectory directory(::testing::TempDir());
  GroupRecord record;
  record.group = "g";
  for (const std::vector<std::string>& guests :
       {std::vector<std::string>{"kvm:a"}, {"synthetic:a", "xen:b"}, {"xen:b", "synthetic:a"}}) {
    record.guests = guests;
    EXPECT_TRUE(
        absl::IsInvalidArgument(AttachNodeGuests(directory, record, GuestHold::kRun).status()));
  }
}

TEST(ShutDownGuest, LeavesAloneWhatWasNotStartedHere) {
  EXPECT_TRUE(
      absl::IsInvalidArgument(ShutDownGuest(GroupDirectory(::testing::TempDir()), "xen:web1")));
}

}  // namespace
}  // namespace haven
