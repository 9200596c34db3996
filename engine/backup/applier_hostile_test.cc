// SPDX-License-Identifier: Apache-2.0
//
// A peer that rewrites the journal while it is being verified and applied. It is a process of its
// own, as in life, so that the races are between address spaces and none of them ours.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/journal_reader.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/backup/memory_replica.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/replica/control_block.h"
#include "engine/replica/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

constexpr SessionId kSession = 0xbad;
constexpr JournalGeometry kGeometry = {
    .slot_bytes = kMinSlotBytes, .ring_slots = 4, .pool_slots = 0, .extent_slots = 1};
constexpr int kRounds = 600;

// Memory that a forked child shares.
class SharedRegion {
 public:
  SharedRegion() {
    void* base = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    HAVEN_CHECK(base != MAP_FAILED);
    base_ = static_cast<std::byte*>(base);
  }
  ~SharedRegion() { munmap(base_, kBytes); }
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  std::span<std::byte> journal() const { return {base_, kGeometry.total_bytes()}; }
  // Changes made by the peer so far.
  std::atomic<uint64_t>& changes() const {
    return *reinterpret_cast<std::atomic<uint64_t>*>(base_ + kGeometry.total_bytes());
  }

 private:
  static constexpr size_t kBytes =
      kControlBlockBytes + size_t{kMinSlotBytes} * kGeometry.ring_slots + sizeof(uint64_t);
  std::byte* base_;
};

// Changes a frame of the chunk in `slot` so that every CRC still fits.
void ForgeFrame(Random& random, std::span<std::byte> slot) {
  constexpr uint64_t kValues[] = {
      0, 8, 9, 10, 12, 59, 60, 63, 64, 1u << 20, uint64_t{1} << 40, ~uint64_t{0}};
  constexpr uint32_t kCounts[] = {0, 1, 2, 14, 15, 16, 17, 64, 5000, 0xffffffff};
  EncodeFrameHeader(static_cast<FrameType>(random.Below(5)), static_cast<uint16_t>(random.Below(3)),
                    kCounts[random.Below(std::size(kCounts))],
                    kValues[random.Below(std::size(kValues))],
                    slot.subspan(kChunkHeaderBytes).first<kFrameHeaderBytes>());
  ChunkHeader header;
  uint32_t crc = 0;
  HAVEN_CHECK_OK(DecodeChunkHeader(slot, &header, &crc));
  header.payload_crc = Crc32c(ChunkPayload(slot, header));
  EncodeChunkHeader(header, slot.first<kChunkHeaderBytes>());
}

// The peer: puts an honest and a forged image of the journal in turn over random parts of the
// region.
[[noreturn]] void RunPeer(const SharedRegion& region) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::span<std::byte> journal = region.journal();
  const std::vector<std::byte> honest(journal.begin(), journal.end());
  std::vector<std::byte> forged = honest;
  Random random(7);
  while (true) {
    const uint32_t slot = static_cast<uint32_t>(random.Below(kGeometry.slots()));
    const size_t offset = kGeometry.SlotOffset(slot);
    std::memcpy(forged.data() + offset, honest.data() + offset, kGeometry.slot_bytes);
    ForgeFrame(random, std::span(forged).subspan(offset, kGeometry.slot_bytes));
    // A whole slot, or just its first frame, or somewhere in the middle.
    const size_t from = offset + random.Below(3) * kChunkHeaderBytes;
    const size_t bytes =
        random.Chance(1, 2) ? kFrameHeaderBytes : offset + kGeometry.slot_bytes - from;
    std::memcpy(journal.data() + from, forged.data() + from, bytes);
    region.changes().fetch_add(1);
    std::memcpy(journal.data(), honest.data(), honest.size());
    region.changes().fetch_add(1);
  }
}

TEST(ApplierHostileTest, APeerThatRewritesTheJournalReachesNothingButRam) {
  const SharedRegion region;
  absl::StatusOr<std::unique_ptr<MemoryReplica>> made =
      MemoryReplica::Create({.pages = 64, .special = {{0, 8}, {60, 64}}, .max_state_bytes = 100});
  ASSERT_TRUE(made.ok());
  MemoryReplica& replica = **made;
  std::memset(replica.memory().Page(0), 0x5a, 8 * kPageBytes);
  std::memset(replica.memory().Page(60), 0x5a, 4 * kPageBytes);

  TestJournal journal(region.journal(), kGeometry, kSession);
  TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
  epoch.runs = {FilledRun(0, 8, 48, 1)};
  epoch.states = {std::vector<std::byte>(50, std::byte{1})};
  const CommitRecord record = journal.Write(epoch, 1, 1, 0);
  ASSERT_EQ(record.totals.chunk_count, kGeometry.ring_slots);

  const pid_t peer = fork();
  ASSERT_GE(peer, 0);
  if (peer == 0) RunPeer(region);

  const uint32_t max_state_bytes = 100;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t seen = region.changes().load();
    SlotLedger ledger(kGeometry);
    StateStore states({&max_state_bytes, 1});
    JournalReader reader({.region = region.journal(),
                          .geometry = kGeometry,
                          .session = kSession,
                          .replicas = {&replica},
                          .ledger = &ledger,
                          .states = &states});
    reader.BeginLink(1);
    const auto committed = reader.OnImmediate(CommitImmediate(1));
    if (committed.ok()) {
      auto applier = Applier::Create({.region = region.journal(),
                                      .geometry = kGeometry,
                                      .replicas = {&replica},
                                      .recheck_crc = round % 2 == 0});
      ASSERT_TRUE(applier.ok());
      (*applier)->Submit(**committed);
      const absl::Status applied = (*applier)->Drain();
      EXPECT_TRUE(applied.ok() || absl::IsDataLoss(applied)) << applied;
      EXPECT_EQ(states.epoch(), 1u);
    } else {
      EXPECT_EQ(states.epoch(), kNoEpoch);
      EXPECT_EQ(ledger.unapplied(), 0u);
    }
    while (region.changes().load() == seen) sched_yield();
  }
  ASSERT_EQ(kill(peer, SIGKILL), 0);
  ASSERT_EQ(waitpid(peer, nullptr, 0), peer);

  const auto untouched = [&](Gfn first, size_t pages) {
    return std::ranges::all_of(replica.bytes().subspan(first * kPageBytes, pages * kPageBytes),
                               [](std::byte byte) { return byte == std::byte{0x5a}; });
  };
  EXPECT_TRUE(untouched(0, 8));
  EXPECT_TRUE(untouched(60, 4));
}

// Writes bytes into the journal at the moment in which the applier writes to a certain page.
struct Trap {
  std::byte* page = nullptr;
  std::byte* target = nullptr;
  std::array<std::byte, kChunkHeaderBytes> bytes{};
};
Trap g_trap;

void OnFault(int, siginfo_t* info, void*) {
  const std::byte* at = static_cast<const std::byte*>(info->si_addr);
  if (at < g_trap.page || at >= g_trap.page + kPageBytes) _exit(1);
  std::copy(g_trap.bytes.begin(), g_trap.bytes.end(), g_trap.target);
  if (mprotect(g_trap.page, kPageBytes, PROT_READ | PROT_WRITE) != 0) _exit(2);
}

// A chunk is rewritten while it is being copied: every check before has passed.
class ApplierTrapTest : public ::testing::Test {
 protected:
  ApplierTrapTest() {
    backup_.reader.BeginLink(1);
    TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
    epoch.runs = {FilledRun(0, 8, 10, 1)};
    epoch.states = {std::vector<std::byte>(1)};
    slot_ = backup_.journal.ChunkSlot(backup_.journal.Write(epoch, 1, 1, 0), 0);
    g_trap.page = backup_.replicas[0]->memory().Page(12);
  }

  // Applies the epoch, with the trap set.
  absl::Status Apply() {
    const auto committed = backup_.reader.OnImmediate(CommitImmediate(1));
    HAVEN_CHECK_OK(committed);
    auto applier = Applier::Create(
        {.region = backup_.region, .geometry = kGeometry, .replicas = backup_.domains()});
    HAVEN_CHECK_OK(applier);
    struct sigaction on_fault = {};
    struct sigaction before = {};
    on_fault.sa_sigaction = OnFault;
    on_fault.sa_flags = SA_SIGINFO;
    HAVEN_CHECK_EQ(sigaction(SIGSEGV, &on_fault, &before), 0);
    HAVEN_CHECK_EQ(mprotect(g_trap.page, kPageBytes, PROT_READ), 0);
    (*applier)->Submit(**committed);
    HAVEN_CHECK_EQ(sigaction(SIGSEGV, &before, nullptr), 0);
    EXPECT_EQ(*backup_.replicas[0]->memory().Page(12), std::byte{5}) << "it was not copied";
    return (*applier)->Drain();
  }

  TestBackup backup_{kGeometry, {{.pages = 64}}, kSession};
  std::span<std::byte> slot_;
};

TEST_F(ApplierTrapTest, TheHeaderOfALaterChunkPoisonsTheReplica) {
  ChunkHeader later;
  uint32_t crc = 0;
  ASSERT_TRUE(DecodeChunkHeader(slot_, &later, &crc).ok());
  later.identity.epoch = 2;
  EncodeChunkHeader(later, g_trap.bytes);
  g_trap.target = slot_.data();
  const absl::Status status = Apply();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("the chunk's CRC as verified"));
}

TEST_F(ApplierTrapTest, AnotherPayloadPoisonsTheReplica) {
  g_trap.bytes.fill(std::byte{0x77});
  g_trap.target = slot_.data() + kChunkHeaderBytes + kFrameHeaderBytes + 9 * kPageBytes;
  const absl::Status status = Apply();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("payload_crc"));
}

}  // namespace
}  // namespace haven
