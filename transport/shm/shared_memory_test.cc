// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shared_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "transport/shm/testing/forked_peer.h"

namespace haven {
namespace {

using testing::HasSubstr;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// A memfd as a peer could make it: right in all points but those that a test changes.
struct Crafted {
  uint64_t bytes = 3 * 4096;
  bool allocated = true;
  int seals = kSeals;

  UniqueFd Make() const {
    UniqueFd fd(memfd_create("crafted", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
    if (allocated) {
      EXPECT_EQ(fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)), 0);
    }
    EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
  }
};

absl::Status Import(UniqueFd fd, uint64_t bytes) {
  return SharedMemory::Import("test region", std::move(fd), bytes).status();
}

TEST(SharedMemory, IsZeroPageAlignedWritableAndSealed) {
  const auto memory = SharedMemory::Create("test", 5000);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->bytes().size(), 8192u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->bytes().data()) % 4096, 0u);
  for (const std::byte byte : memory->bytes()) ASSERT_EQ(byte, std::byte{0});
  memory->bytes().back() = std::byte{1};
  EXPECT_EQ(fcntl(memory->fd(), F_GET_SEALS) & kSeals, kSeals);
  EXPECT_NE(ftruncate(memory->fd(), 4096), 0);
  EXPECT_NE(ftruncate(memory->fd(), 16384), 0);
  EXPECT_EQ(fcntl(memory->fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(SharedMemory, ImportSeesTheSameBytes) {
  const auto memory = SharedMemory::Create("test", 8192);
  const auto imported =
      SharedMemory::Import("test", UniqueFd(dup(memory->fd())), memory->bytes().size());
  ASSERT_TRUE(imported.ok()) << imported.status();
  imported->bytes()[4097] = std::byte{42};
  EXPECT_EQ(memory->bytes()[4097], std::byte{42});
  EXPECT_TRUE(memory->IsBackedBy(imported->fd()));
  EXPECT_FALSE(memory->IsBackedBy(SharedMemory::Create("other", 8192)->fd()));
  EXPECT_FALSE(memory->IsBackedBy(-1));
}

// Larger than a huge page: exercises the huge pages of a host that has some, else the fall-back.
TEST(SharedMemory, LargeRegionsWorkWithAndWithoutHugePages) {
  constexpr uint64_t kBytes = (uint64_t{4} << 20) + 4096;
  const auto memory = SharedMemory::Create("large", kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->bytes().size(), kBytes);
  const auto imported = SharedMemory::Import("large", UniqueFd(dup(memory->fd())), kBytes);
  ASSERT_TRUE(imported.ok()) << imported.status();
  imported->bytes().back() = std::byte{7};
  EXPECT_EQ(memory->bytes().back(), std::byte{7});
}

TEST(SharedMemory, SizesThatCanNotBeAreRefused) {
  EXPECT_EQ(SharedMemory::Create("none", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SharedMemory::Create("giant", kMaxSharedBytes + 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import(Crafted().Make(), 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import(Crafted().Make(), UINT64_MAX).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, TooLittleMemoryIsAnErrorNotAKill) {
  const absl::Status refused = SharedMemory::Create("the journal ring", kMaxSharedBytes).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("the journal ring"));
}

TEST(SharedMemory, ImportRefusesAWrongSize) {
  EXPECT_TRUE(Import(Crafted().Make(), 3 * 4096).ok());
  EXPECT_TRUE(Import(Crafted().Make(), 3 * 4096 - 1).ok());
  for (const uint64_t claimed : {4096, 2 * 4096, 4 * 4096, 1 << 30}) {
    const absl::Status refused = Import(Crafted().Make(), claimed);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << claimed;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("12288")) << claimed;
  }
}

TEST(SharedMemory, ImportRefusesAMissingSeal) {
  for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) {
    const absl::Status refused = Import(Crafted{.seals = kSeals & ~missing}.Make(), 3 * 4096);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << missing;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("seals")) << missing;
  }
}

// Mapping it would make this process pay for the peer's memory: 1 TiB here.
TEST(SharedMemory, ImportRefusesMemoryThatIsNotAllocated) {
  const uint64_t tib = uint64_t{1} << 40;
  const absl::Status refused = Import(Crafted{.bytes = tib, .allocated = false}.Make(), tib);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("allocated"));
}

TEST(SharedMemory, ImportRefusesMemoryThatCanNotBeWritten) {
  EXPECT_EQ(Import(Crafted{.seals = kSeals | F_SEAL_WRITE}.Make(), 3 * 4096).code(),
            absl::StatusCode::kInvalidArgument);
  const UniqueFd memfd = Crafted().Make();
  const std::string path = "/proc/self/fd/" + std::to_string(memfd.get());
  EXPECT_EQ(Import(UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)), 3 * 4096).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemory, ImportRefusesWhatIsNoMemfd) {
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd writing(pipe_ends[1]);
  EXPECT_EQ(Import(UniqueFd(pipe_ends[0]), 4096).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import(UniqueFd(open("/dev/zero", O_RDWR | O_CLOEXEC)), 4096).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Import(UniqueFd(), 4096).code(), absl::StatusCode::kInvalidArgument);

  std::string path = testing::TempDir() + "/shared_memory_test_XXXXXX";
  UniqueFd file(mkstemp(path.data()));
  ASSERT_TRUE(file.valid());
  EXPECT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(posix_fallocate(file.get(), 0, 4096), 0);
  EXPECT_EQ(Import(std::move(file), 4096).code(), absl::StatusCode::kInvalidArgument);
}

// A child of the writer must not be able to go on writing after the writer was killed.
TEST(SharedMemory, ChildrenDoNotInheritTheMapping) {
  const auto memory = SharedMemory::Create("test", 4096);
  memory->bytes()[0] = std::byte{1};
  ForkedPeer child([&] {
    // Neither a sanitizer nor a core handler is wanted here.
    signal(SIGSEGV, SIG_DFL);
    memory->bytes()[0] = std::byte{2};
    return 0;
  });
  EXPECT_EQ(child.Wait(), -SIGSEGV);
  EXPECT_EQ(memory->bytes()[0], std::byte{1});
}

TEST(SharedMemory, LeavesNothingBehind) {
  const auto files_in_dev_shm = [] {
    using std::filesystem::directory_iterator;
    return std::distance(directory_iterator("/dev/shm"), directory_iterator());
  };
  const auto files_before = files_in_dev_shm();
  const int fds_before = CountOpenFds();
  {
    const auto memory = SharedMemory::Create("test", 1 << 20);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(files_in_dev_shm(), files_before);
    EXPECT_FALSE(Import(Crafted{.seals = F_SEAL_SHRINK}.Make(), 4096).ok());
    SharedMemory moved = SharedMemory(std::move(*SharedMemory::Create("moved", 4096)));
    moved.bytes()[0] = std::byte{1};
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
  std::ifstream maps("/proc/self/maps");
  const std::string all{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_EQ(all.find("memfd:haven"), std::string::npos);
}

}  // namespace
}  // namespace haven
