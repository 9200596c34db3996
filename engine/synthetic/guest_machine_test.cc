// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/guest_machine.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/synthetic/verify.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

// A guest in this process, and what another process would map of it. Its memory is only looked at
// while it stands still.
class GuestMachineTest : public ::testing::Test {
 protected:
  void Create(const std::string& text, bool waiting = false) {
    spec_ = *ParseSyntheticSpec(text);
    layout_.emplace(spec_);
    absl::StatusOr<std::unique_ptr<GuestMachine>> machine = GuestMachine::Create(spec_, waiting);
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
    memory_map_ = *MapSharedMemory(machine_->memory_fd(), layout_->bytes(), true, "memory");
    bitmap_map_ = *MapSharedMemory(machine_->bitmap_fd(), layout_->bitmap_bytes(), true, "bitmap");
    status_map_ = *MapSharedMemory(machine_->status_fd(), kPageBytes, false, "status");
    memory_ = layout_->View(memory_map_.data());
  }

  const SyntheticStatusPage& status() const {
    return *reinterpret_cast<const SyntheticStatusPage*>(status_map_.data());
  }

  void AwaitEvent() {
    pollfd entry{machine_->event_fd().get(), POLLIN, 0};
    ASSERT_EQ(poll(&entry, 1, 20'000), 1);
    uint64_t count;
    ASSERT_EQ(read(machine_->event_fd().get(), &count, sizeof(count)),
              static_cast<ssize_t>(sizeof(count)));
  }

  void Suspend() {
    machine_->Suspend(++id_);
    AwaitEvent();
    EXPECT_EQ(status().suspended_id, id_);
  }

  // The state record of the guest that stands still.
  SyntheticState State() {
    const absl::StatusOr<SyntheticState> state =
        DecodeSyntheticState(spec_, std::span(status().state).first(status().state_bytes));
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *state : SyntheticState();
  }

  void AwaitWrites(uint64_t count) {
    for (uint32_t vcpu = 0; vcpu < spec_.vcpus; ++vcpu) {
      while (machine_->writes(vcpu) < count) std::this_thread::yield();
    }
  }

  // Frames logged as dirty; clears the log.
  std::vector<Gfn> FetchLog() {
    std::vector<Gfn> frames;
    auto* const words = reinterpret_cast<uint64_t*>(bitmap_map_.data());
    for (Gfn gfn = 0; gfn < layout_->page_count(); ++gfn) {
      std::atomic_ref<uint64_t> word(words[gfn / 64]);
      const uint64_t bit = uint64_t{1} << (gfn % 64);
      if ((word.fetch_and(~bit) & bit) != 0) frames.push_back(gfn);
    }
    return frames;
  }

  SyntheticSpec spec_;
  std::optional<SyntheticLayout> layout_;
  std::unique_ptr<GuestMachine> machine_;
  MappedMemory memory_map_;
  MappedMemory bitmap_map_;
  MappedMemory status_map_;
  GuestMemory memory_;
  uint64_t id_ = 0;
};

TEST_F(GuestMachineTest, AStoppedGuestEqualsItsState) {
  Create("synthetic:mem=4M,vcpus=3,dirty=300000,block=512,output=0");
  for (int round = 1; round <= 5; ++round) {
    AwaitWrites(static_cast<uint64_t>(round) * 1000);
    Suspend();
    const SyntheticState state = State();
    EXPECT_EQ(state.stops, static_cast<uint64_t>(round));
    const absl::Status equal = VerifySyntheticImage(spec_, memory_, state);
    EXPECT_TRUE(equal.ok()) << equal;
    machine_->Resume();
    EXPECT_EQ(status().suspended_id, 0u);
  }
}

TEST_F(GuestMachineTest, TheFillIsThereFromTheStart) {
  Create("synthetic:mem=4M,vcpus=2,dirty=0,output=0,fill=0.5");
  Suspend();
  const SyntheticState state = State();
  EXPECT_EQ(state.vcpus[0].writes + state.vcpus[1].writes, 512u);
  EXPECT_TRUE(VerifySyntheticImage(spec_, memory_, state).ok());
}

TEST_F(GuestMachineTest, EveryChangedPageIsInTheLog) {
  Create("synthetic:mem=4M,vcpus=2,dirty=100000,block=64,output=0,fill=0.1");
  Suspend();
  machine_->EnableLogDirty();
  EXPECT_TRUE(FetchLog().empty());
  std::vector<std::byte> copy(layout_->bytes());
  std::copy_n(memory_map_.data(), copy.size(), copy.data());
  const GuestMemory view = layout_->View(copy.data());
  for (int epoch = 0; epoch < 10; ++epoch) {
    const uint64_t before = machine_->writes(0);
    machine_->Resume();
    AwaitWrites(before + 200);
    Suspend();
    bool special = false;
    for (const Gfn gfn : FetchLog()) {
      special = special || gfn >= layout_->special_first();
      if (memory_.IsRam(gfn)) std::copy_n(memory_.Page(gfn), kPageBytes, view.Page(gfn));
    }
    EXPECT_TRUE(special) << "special pages are logged although they are no RAM";
    const absl::Status equal = VerifySyntheticImage(spec_, view, State());
    ASSERT_TRUE(equal.ok()) << equal;
  }
}

TEST_F(GuestMachineTest, ALostLogIsEmptyAndCounted) {
  Create("synthetic:mem=1M,dirty=100000");
  EXPECT_EQ(machine_->EnableLogDirty(), 0u);
  EXPECT_EQ(status().log_dirty_on, 1u);
  AwaitWrites(1000);
  machine_->LoseLogDirty();
  EXPECT_EQ(status().log_dirty_on, 0u);
  EXPECT_EQ(status().log_dirty_breaks, 1u);
  EXPECT_EQ(machine_->EnableLogDirty(), 1u);
}

TEST_F(GuestMachineTest, ACopyGoesOnWhereTheOriginalStoppedOneGenerationLater) {
  Create("synthetic:mem=4M,vcpus=2,dirty=100000,output=1000");
  AwaitWrites(2000);
  Suspend();
  const SyntheticState state = State();
  EXPECT_GT(state.next_sequence, 1u);
  std::vector<std::byte> image(memory_map_.data(), memory_map_.data() + memory_map_.size());
  machine_.reset();

  Create("synthetic:mem=4M,vcpus=2,dirty=100000,output=1000", true);
  const GuestMemory view = layout_->View(image.data());
  for (uint64_t page = 0; page < layout_->ram_pages(); ++page) {
    const Gfn gfn = layout_->RamFrame(page);
    std::copy_n(view.Page(gfn), kPageBytes, memory_.Page(gfn));
  }
  ASSERT_TRUE(machine_->Load(state).ok());
  EXPECT_EQ(machine_->gate().next_sequence(), state.next_sequence);
  machine_->Resume();
  AwaitWrites(std::max(state.vcpus[0].writes, state.vcpus[1].writes) + 1000);
  Suspend();
  const SyntheticState later = State();
  EXPECT_EQ(later.generation, 2u);
  EXPECT_GT(later.next_sequence, state.next_sequence);
  EXPECT_TRUE(VerifySyntheticImage(spec_, memory_, later).ok());
}

TEST_F(GuestMachineTest, ACopyWithAWrongByteRefusesItsState) {
  Create("synthetic:mem=1M,fill=0.5,dirty=0");
  Suspend();
  const SyntheticState state = State();
  std::vector<std::byte> image(memory_map_.data(), memory_map_.data() + memory_map_.size());
  machine_.reset();
  Create("synthetic:mem=1M,fill=0.5,dirty=0", true);
  const GuestMemory view = layout_->View(image.data());
  for (uint64_t page = 0; page < layout_->ram_pages() / 2; ++page) {
    std::copy_n(view.Page(layout_->RamFrame(page)), kPageBytes,
                memory_.Page(layout_->RamFrame(page)));
  }
  memory_.Page(5)[77] ^= std::byte{4};
  EXPECT_THAT(std::string(machine_->Load(state).message()), HasSubstr("frame 5"));
  memory_.Page(5)[77] ^= std::byte{4};
  memory_.Page(layout_->RamFrame(200))[0] = std::byte{1};
  EXPECT_EQ(machine_->Load(state).code(), absl::StatusCode::kDataLoss);
  memory_.Page(layout_->RamFrame(200))[0] = std::byte{0};
  EXPECT_TRUE(machine_->Load(state).ok());
}

TEST_F(GuestMachineTest, ACopyWhoseSpecialPagesWereWrittenRefusesItsState) {
  Create("synthetic:mem=1M,verify=0", true);
  memory_map_.data()[layout_->special_first() * kPageBytes] ^= std::byte{1};
  EXPECT_THAT(std::string(machine_->Load(SyntheticState()).message()), HasSubstr("special frame"));
}

TEST_F(GuestMachineTest, TheSelfProofDoesNotAllocateWhatWasNeverWritten) {
  Create("synthetic:mem=64M", true);
  struct stat before {};
  ASSERT_EQ(fstat(machine_->memory_fd().get(), &before), 0);
  ASSERT_TRUE(machine_->Load(SyntheticState()).ok());
  struct stat after {};
  ASSERT_EQ(fstat(machine_->memory_fd().get(), &after), 0);
  EXPECT_EQ(after.st_blocks, before.st_blocks);
}

TEST_F(GuestMachineTest, AnEndedGuestStandsStillForGood) {
  Create("synthetic:mem=1M,dirty=100000");
  AwaitWrites(1000);
  machine_->End(DomainEnd::kCrash);
  AwaitEvent();
  EXPECT_EQ(status().end, static_cast<uint64_t>(DomainEnd::kCrash));
  machine_->End(DomainEnd::kShutdown);
  machine_->Resume();
  machine_->Suspend(77);
  EXPECT_EQ(machine_->end(), DomainEnd::kCrash);
  EXPECT_TRUE(machine_->stopped());
  // Its last state can still be committed.
  EXPECT_TRUE(VerifySyntheticImage(spec_, memory_, State()).ok());
}

TEST_F(GuestMachineTest, ASuspendedGuestCanEnd) {
  Create("synthetic:mem=1M");
  Suspend();
  machine_->End(DomainEnd::kReboot);
  AwaitEvent();
  EXPECT_EQ(status().end, static_cast<uint64_t>(DomainEnd::kReboot));
}

TEST_F(GuestMachineTest, ALostBufferIsRememberedUntilItIsRebuiltOrRemoved) {
  Create("synthetic:mem=1M");
  ASSERT_TRUE(machine_->gate().Hold().ok());
  EXPECT_EQ(status().gate_lost_ns, 0u);
  machine_->LoseGate();
  EXPECT_NE(status().gate_lost_ns, 0u);
  ASSERT_TRUE(machine_->gate().Hold().ok());
  EXPECT_NE(status().gate_lost_ns, 0u);
  ASSERT_TRUE(machine_->RebuildGate().ok());
  EXPECT_EQ(status().gate_lost_ns, 0u);
  machine_->LoseGate();
  ASSERT_TRUE(machine_->RemoveGate().ok());
  EXPECT_EQ(status().gate_lost_ns, 0u);
}

TEST_F(GuestMachineTest, ALogThatCanNotBeOpenedIsReported) {
  SyntheticSpec spec;
  spec.log = "/no/such/directory/log";
  EXPECT_EQ(GuestMachine::Create(spec, false).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace haven
