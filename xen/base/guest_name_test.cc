// SPDX-License-Identifier: Apache-2.0
#include "xen/base/guest_name.h"

#include <memory>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "xen/base/interfaces_testing.h"

namespace haven {
namespace {

class GuestNameTest : public ::testing::Test {
 protected:
  void Domain(uint32_t domid, const std::string& name) {
    content_->entries[absl::StrCat("/local/domain/", domid, "/name")] = name;
  }
  // The domain's number; 0: none.
  uint32_t Find(const std::string& name) {
    const auto found = FindGuestDomain(store_, name, [this](uint32_t domid) {
      if (left_behind_.count(domid) != 0) return DomainLife::kGone;
      return incoming_runs_ ? DomainLife::kRuns : DomainLife::kThere;
    });
    EXPECT_TRUE(found.ok() || absl::IsNotFound(found.status())) << found.status();
    return found.ok() ? *found : 0;
  }

  std::shared_ptr<FakeStoreContent> content_ = std::make_shared<FakeStoreContent>();
  FakeStore store_{content_};
  bool incoming_runs_ = false;
  std::set<uint32_t> left_behind_;  // Domains that are gone, and their entries are not.
};

TEST_F(GuestNameTest, ByNameAndByNumber) {
  Domain(0, "Domain-0");
  Domain(3, "web1");
  Domain(12, "web11");
  EXPECT_EQ(Find("web1"), 3u);
  EXPECT_EQ(Find("12"), 12u);
  EXPECT_EQ(Find("web"), 0u);
  EXPECT_EQ(Find("0"), 0u);
  EXPECT_EQ(Find("Domain-0"), 0u);
}

TEST_F(GuestNameTest, AGuestThatWasRenamedIsStillKnown) {
  Domain(3, "web1");
  ASSERT_TRUE(MarkGuest(store_, 3, "web1").ok());
  Domain(3, "web1-old");
  EXPECT_EQ(Find("web1"), 3u);
  Domain(2, "web1");
  EXPECT_EQ(Find("web1"), 3u) << "another one that has taken the name is not it";
  ASSERT_TRUE(UnmarkGuest(store_, 3).ok());
  ASSERT_TRUE(UnmarkGuest(store_, 3).ok());
  EXPECT_EQ(Find("web1"), 2u);
}

TEST_F(GuestNameTest, ACopyThatWaitsIsNoGuest) {
  Domain(3, "web1--incoming");
  EXPECT_EQ(Find("web1"), 0u);
  incoming_runs_ = true;
  EXPECT_EQ(Find("web1"), 3u) << "promoted, and its process died before it could name it";
  Domain(4, "web1");
  EXPECT_EQ(Find("web1"), 4u);
}

TEST_F(GuestNameTest, ACopyIsKnownByTheToolstacksName) {
  EXPECT_TRUE(IsIncomingName("web1--incoming", "web1"));
  for (const char* const other : {"web1", "web", "web1--incoming2", "web1-x--incoming", ""}) {
    EXPECT_FALSE(IsIncomingName(other, "web1")) << other;
  }
}

TEST_F(GuestNameTest, WhatADeadDomainHasLeftIsNoGuest) {
  for (const uint32_t domid : {3, 9}) {
    Domain(domid, "web1");
    ASSERT_TRUE(MarkGuest(store_, domid, "web1").ok());
  }
  left_behind_ = {3};
  EXPECT_EQ(Find("web1"), 9u);
  ASSERT_TRUE(UnmarkGuest(store_, 9).ok());
  EXPECT_EQ(Find("web1"), 9u) << "by its name";
  left_behind_ = {3, 9};
  EXPECT_EQ(Find("web1"), 0u);
}

TEST_F(GuestNameTest, AStoreThatDoesNotAnswerIsNoGuestThatIsGone) {
  Domain(3, "web1");
  content_->error = absl::UnavailableError("no daemon");
  const auto there = [](uint32_t) { return DomainLife::kThere; };
  EXPECT_TRUE(absl::IsUnavailable(FindGuestDomain(store_, "web1", there).status()));
}

}  // namespace
}  // namespace haven
