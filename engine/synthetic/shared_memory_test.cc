// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr size_t kBytes = 8192;

TEST(SharedMemoryTest, MappingsOfOneDescriptorShareTheirBytes) {
  const absl::StatusOr<UniqueFd> fd = CreateSharedMemory("test", kBytes);
  ASSERT_TRUE(fd.ok()) << fd.status();
  const absl::StatusOr<MappedMemory> one = MapSharedMemory(*fd, kBytes, true, "one");
  const absl::StatusOr<MappedMemory> two = MapSharedMemory(*fd, kBytes, false, "two");
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(two->data()[100], std::byte{0});
  one->data()[100] = std::byte{7};
  EXPECT_EQ(two->data()[100], std::byte{7});
}

TEST(SharedMemoryTest, TheSizeIsFixedAndChecked) {
  const UniqueFd fd = *CreateSharedMemory("test", kBytes);
  EXPECT_NE(ftruncate(fd.get(), 0), 0);
  EXPECT_NE(ftruncate(fd.get(), 2 * kBytes), 0);
  const absl::Status status = MapSharedMemory(fd, kBytes + 4096, true, "guest memory").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              ::testing::HasSubstr("guest memory has 8192 bytes instead of 12288"));
}

TEST(SharedMemoryTest, WhatCouldShrinkIsNotMapped) {
  const UniqueFd open_ended(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(open_ended.get(), kBytes), 0);
  EXPECT_FALSE(MapSharedMemory(open_ended, kBytes, true, "x").ok());
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(MapSharedMemory(file, kBytes, true, "x").ok());
  EXPECT_FALSE(MapSharedMemory(UniqueFd(), kBytes, true, "x").ok());
}

TEST(SharedMemoryTest, AReadOnlyDescriptorCanNotBeMappedForWriting) {
  const UniqueFd fd = *CreateSharedMemory("test", kBytes);
  const absl::StatusOr<UniqueFd> reader = OpenReadOnly(fd);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE(MapSharedMemory(*reader, kBytes, false, "x").ok());
  EXPECT_FALSE(MapSharedMemory(*reader, kBytes, true, "x").ok());
}

TEST(SharedMemoryTest, NewWritersCanBeForbiddenWhileOldOnesGoOn) {
  const UniqueFd fd = *CreateSharedMemory("test", kBytes);
  const MappedMemory writer = *MapSharedMemory(fd, kBytes, true, "x");
  ASSERT_TRUE(ForbidNewWriters(fd).ok());
  EXPECT_FALSE(MapSharedMemory(fd, kBytes, true, "x").ok());
  writer.data()[0] = std::byte{1};
  EXPECT_EQ(MapSharedMemory(fd, kBytes, false, "x")->data()[0], std::byte{1});
}

}  // namespace
}  // namespace haven
