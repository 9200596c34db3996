// SPDX-License-Identifier: Apache-2.0
#include "engine/base/fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "gtest/gtest.h"

namespace haven {
namespace {

int OpenNull() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

TEST(UniqueFdTest, HoldsNothingByDefaultOrAfterAFailedOpen) {
  const UniqueFd none;
  EXPECT_FALSE(none.valid());
  EXPECT_EQ(none.get(), -1);
  const UniqueFd failed(open("/nonexistent/file", O_RDONLY));
  EXPECT_FALSE(failed);
  EXPECT_EQ(UniqueFd(-7).get(), -1);
}

TEST(UniqueFdTest, ClosesAtTheEndOfItsScope) {
  int raw = -1;
  {
    const UniqueFd fd(OpenNull());
    raw = fd.get();
    ASSERT_TRUE(fd);
    EXPECT_TRUE(IsOpen(raw));
  }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, MovingPassesOwnership) {
  UniqueFd first(OpenNull());
  const int raw = first.get();
  UniqueFd second(std::move(first));
  EXPECT_EQ(second.get(), raw);
  UniqueFd third(OpenNull());
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), raw);
  EXPECT_TRUE(IsOpen(raw));
  EXPECT_FALSE(IsOpen(replaced));
}

TEST(UniqueFdTest, MovingToItselfKeepsTheDescriptor) {
  UniqueFd fd(OpenNull());
  UniqueFd& same = fd;
  fd = std::move(same);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(IsOpen(fd.get()));
}

TEST(UniqueFdTest, ReleaseGivesUpWithoutClosing) {
  UniqueFd fd(OpenNull());
  const int raw = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(IsOpen(raw));
  fd.reset(raw);
  fd.reset();
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, ResetKeepsErrno) {
  UniqueFd fd(OpenNull());
  ASSERT_TRUE(fd);
  close(fd.get());
  errno = ENODEV;
  fd.reset();
  EXPECT_EQ(errno, ENODEV);
}

}  // namespace
}  // namespace haven
