// SPDX-License-Identifier: Apache-2.0
//
// Random sessions from the first immediate to the applied page, against a model of the guest.
#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/backup/applier.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/base/random.h"
#include "engine/replica/control_block.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr SessionId kSession = 0x5e55;
constexpr uint64_t kPages[] = {150, 60};
constexpr int kSteps = 100;
constexpr uint64_t kSeeds = 12;

// By memcmp: an unoptimised build compares byte by byte otherwise.
bool SameBytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// The guests of a primary at one instant.
struct GuestImage {
  std::vector<std::vector<std::byte>> memory;
  std::vector<std::vector<std::byte>> states;
};

// One session. Every step sends one epoch: whole, broken off, or damaged. An epoch is committed
// exactly if it was whole; what is applied equals the model; special pages are never touched.
class ModelSession {
 public:
  ModelSession(uint64_t seed, unsigned threads)
      : random_(seed),
        backup_({.slot_bytes = kMinSlotBytes, .ring_slots = 6, .pool_slots = 12, .extent_slots = 3},
                {{.pages = kPages[0], .special = {{40, 45}, {149, 150}}, .max_state_bytes = 90000},
                 {.pages = kPages[1], .special = {{0, 1}}, .max_state_bytes = 100}},
                kSession) {
    absl::StatusOr<std::unique_ptr<Applier>> applier =
        Applier::Create({.region = backup_.region,
                         .geometry = backup_.geometry,
                         .replicas = backup_.domains(),
                         .threads = threads});
    EXPECT_TRUE(applier.ok());
    applier_ = *std::move(applier);
    for (const uint64_t pages : kPages) guest_.memory.emplace_back(pages * kPageBytes);
    guest_.states = {{}, {}};
    committed_ = guest_;
    NewLink();
  }

  void Step() {
    GuestImage next = committed_;
    const TestEpoch epoch = RandomEpoch(&next);
    if (random_.Chance(1, 3) || backup_.ledger.full()) ApplySome();
    const std::optional<CommitRecord> record = Place(epoch);
    if (!record.has_value()) return;  // Too large for what is free: nothing was sent.
    switch (random_.Below(6)) {
      case 0:
        return BreakOff(*record);
      case 1:
        return Damage(*record);
      case 2:
        return FinishWithoutImmediate(*record, epoch, next);
      default:
        return Deliver(*record, epoch, next);
    }
  }

  // Everything committed is applied and equals the model.
  void Finish() {
    while (ApplySome()) {
    }
    ExpectApplied();
  }

  uint64_t commits() const { return commits_; }
  uint64_t refusals() const { return refusals_; }
  uint64_t pool_epochs() const { return pool_epochs_; }

 private:
  void NewLink() { backup_.reader.BeginLink(++link_); }

  void FillRandomly(std::span<std::byte> bytes) {
    const std::byte value = static_cast<std::byte>(random_.Next());
    std::memset(bytes.data(), std::to_integer<int>(value), bytes.size());
    random_.Fill(bytes.first(std::min<size_t>(bytes.size(), 16)));
  }

  // Ascending runs of random length over the RAM of both domains, put into `next` as well.
  TestEpoch RandomEpoch(GuestImage* next) {
    TestEpoch epoch{.epoch = last_epoch_ + 1 + random_.Below(3),
                    .base = backup_.reader.committed_epoch()};
    last_epoch_ = epoch.epoch;
    const bool sync = !backup_.reader.has_checkpoint() && random_.Chance(1, 2);
    epoch.kind = sync ? EpochKind::kSync : EpochKind::kCheckpoint;
    const uint64_t gap = 1 + random_.Below(40);
    for (uint16_t domain = 0; domain < backup_.domain_count(); ++domain) {
      const GuestMemory& memory = backup_.replicas[domain]->memory();
      Gfn gfn = random_.Below(gap);
      while (gfn < memory.page_count()) {
        uint32_t pages = 0;
        const uint64_t wanted = 1 + random_.Below(40);
        while (pages < wanted && memory.IsRam(gfn + pages)) ++pages;
        if (pages > 0) AddRun(domain, gfn, pages, &epoch, next);
        gfn += pages + 1 + random_.Below(gap);
      }
    }
    if (sync) return epoch;
    for (uint16_t domain = 0; domain < backup_.domain_count(); ++domain) {
      const uint32_t limit = random_.Chance(1, 4) ? backup_.states.max_state_bytes(domain) : 100;
      next->states[domain].assign(1 + random_.Below(limit), std::byte{0});
      FillRandomly(next->states[domain]);
    }
    epoch.states = next->states;
    return epoch;
  }

  void AddRun(uint16_t domain, Gfn gfn, uint32_t pages, TestEpoch* epoch, GuestImage* next) {
    const std::span<std::byte> target =
        std::span(next->memory[domain]).subspan(gfn * kPageBytes, pages * kPageBytes);
    if (random_.Chance(1, 4)) {
      std::memset(target.data(), 0, target.size());
      epoch->runs.push_back(ZeroRun(domain, gfn, pages));
      return;
    }
    for (uint32_t page = 0; page < pages; ++page) {
      FillRandomly(target.subspan(page * kPageBytes, kPageBytes));
    }
    epoch->runs.push_back({.domain = domain,
                           .first = gfn,
                           .pages = pages,
                           .zero = false,
                           .bytes = {target.begin(), target.end()}});
  }

  // Chooses slots as a primary would that knows of fewer free slots than there are.
  std::optional<CommitRecord> Place(const TestEpoch& epoch) {
    const uint32_t chunks = backup_.journal.Encode(epoch, link_, backup_.domain_count());
    uint32_t ring = backup_.ledger.free_ring_slots();
    if (ring > 0 && random_.Chance(1, 3)) ring -= static_cast<uint32_t>(random_.Below(ring + 1));
    const uint32_t beyond = chunks - std::min(ring, chunks);
    if (beyond == 0) return backup_.journal.Place(backup_.ledger.next(), ring);
    const uint32_t extent_slots = backup_.geometry.extent_slots;
    std::vector<uint32_t> extents((beyond + extent_slots - 1) / extent_slots);
    if (!backup_.ledger.GrantExtents(epoch.epoch, extents).ok()) return std::nullopt;
    ++pool_epochs_;
    if (random_.Chance(1, 4)) std::reverse(extents.begin(), extents.end());
    return backup_.journal.Place(backup_.ledger.next(), ring, extents);
  }

  // Writes chunks [0, to), announcing some of them on the way.
  absl::Status SendChunks(const CommitRecord& record, uint32_t to) {
    uint32_t sent = 0;
    while (sent < to) {
      const uint32_t upto = sent + 1 + static_cast<uint32_t>(random_.Below(to - sent));
      backup_.journal.WriteChunks(record, sent, upto);
      sent = upto;
      if (random_.Chance(1, 3)) continue;
      const auto result = backup_.reader.OnImmediate(TestJournal::ChunksImmediate(upto));
      if (!result.ok()) return result.status();
      EXPECT_FALSE(result->has_value());
    }
    return absl::OkStatus();
  }

  // The link breaks before the record is there.
  void BreakOff(const CommitRecord& record) {
    const uint32_t chunks = static_cast<uint32_t>(random_.Below(record.totals.chunk_count + 1));
    EXPECT_TRUE(SendChunks(record, chunks).ok());
    if (!backup_.ledger.full() && random_.Chance(1, 2)) {
      EXPECT_FALSE(backup_.reader.TryFinal().ok());
    }
    NewLink();
  }

  // One bit is wrong, in a chunk or in the record.
  void Damage(const CommitRecord& record) {
    const uint32_t chunks = record.totals.chunk_count;
    const uint32_t victim = static_cast<uint32_t>(random_.Below(chunks + 1));
    absl::Status status = SendChunks(record, std::min(victim, chunks));
    EXPECT_TRUE(status.ok()) << status;
    backup_.journal.WriteChunks(record, victim, chunks);
    backup_.journal.WriteRecord(record);
    std::span<std::byte> target;
    if (victim == chunks) {
      target =
          std::span(backup_.region).subspan(CommitSlotOffset(record.epoch), kCommitRecordBytes);
    } else {
      const std::span<std::byte> slot = backup_.journal.ChunkSlot(record, victim);
      ChunkHeader header;
      uint32_t crc = 0;
      ASSERT_TRUE(DecodeChunkHeader(slot, &header, &crc).ok());
      target = slot.first(kChunkHeaderBytes + header.payload_bytes);
    }
    target[random_.Below(target.size())] ^= static_cast<std::byte>(1 << random_.Below(8));
    if (backup_.ledger.full()) return NewLink();
    if (random_.Chance(1, 2)) {
      status = backup_.reader.OnImmediate(CommitImmediate(record.epoch)).status();
    } else {
      status = backup_.reader.TryFinal().status();
    }
    EXPECT_FALSE(status.ok()) << "epoch " << record.epoch << " victim " << victim;
    EXPECT_EQ(backup_.reader.committed_epoch(), record.base_epoch);
    ++refusals_;
    NewLink();
  }

  void Deliver(const CommitRecord& record, const TestEpoch& epoch, const GuestImage& next) {
    const absl::Status sent = SendChunks(record, record.totals.chunk_count);
    ASSERT_TRUE(sent.ok()) << sent;
    backup_.journal.WriteRecord(record);
    while (backup_.ledger.full()) ApplySome();
    const auto result = backup_.reader.OnImmediate(CommitImmediate(record.epoch));
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->has_value());
    Committed(**result, epoch, next);
  }

  void FinishWithoutImmediate(const CommitRecord& record, const TestEpoch& epoch,
                              const GuestImage& next) {
    const absl::Status sent = SendChunks(record, record.totals.chunk_count);
    ASSERT_TRUE(sent.ok()) << sent;
    backup_.journal.WriteRecord(record);
    while (backup_.ledger.full()) ApplySome();
    const absl::StatusOr<VerifiedEpoch> result = backup_.reader.TryFinal();
    if (epoch.kind == EpochKind::kSync) {
      EXPECT_TRUE(absl::IsFailedPrecondition(result.status())) << result.status();
    } else {
      ASSERT_TRUE(result.ok()) << result.status();
      Committed(*result, epoch, next);
    }
    NewLink();
  }

  void Committed(const VerifiedEpoch& verified, const TestEpoch& epoch, const GuestImage& next) {
    ++commits_;
    EXPECT_EQ(verified.epoch(), epoch.epoch);
    EXPECT_EQ(backup_.reader.committed_epoch(), epoch.epoch);
    committed_ = next;
    waiting_.push_back({verified, next});
    if (epoch.kind == EpochKind::kSync) return;
    EXPECT_EQ(backup_.states.epoch(), epoch.epoch);
    for (uint16_t domain = 0; domain < backup_.domain_count(); ++domain) {
      EXPECT_TRUE(SameBytes(backup_.states.state(domain), next.states[domain]));
    }
  }

  // Applies a random number of waiting epochs; false if there was none.
  bool ApplySome() {
    if (waiting_.empty()) return false;
    const uint64_t count = 1 + random_.Below(waiting_.size());
    for (uint64_t i = 0; i < count; ++i) {
      applier_->Submit(waiting_[i].verified);
      guest_ = std::move(waiting_[i].image);
    }
    EXPECT_TRUE(applier_->Drain().ok());
    for (uint64_t i = 0; i < count; ++i) {
      const std::optional<AppliedEpoch> finished = applier_->PopFinished();
      EXPECT_EQ(finished->epoch, waiting_.front().verified.epoch());
      EXPECT_TRUE(finished->status.ok());
      backup_.ledger.Release(finished->epoch);
      waiting_.pop_front();
    }
    ExpectApplied();
    return true;
  }

  void ExpectApplied() {
    for (uint16_t domain = 0; domain < backup_.domain_count(); ++domain) {
      ASSERT_TRUE(SameBytes(backup_.replicas[domain]->bytes(), guest_.memory[domain]));
    }
  }

  struct Waiting {
    VerifiedEpoch verified;
    GuestImage image;
  };

  Random random_;
  TestBackup backup_;
  std::unique_ptr<Applier> applier_;
  LinkNumber link_ = 0;
  Epoch last_epoch_ = kNoEpoch;
  GuestImage committed_;  // At the last committed epoch.
  GuestImage guest_;      // At the last applied epoch.
  std::deque<Waiting> waiting_;
  uint64_t commits_ = 0;
  uint64_t refusals_ = 0;
  uint64_t pool_epochs_ = 0;
};

// The parameter is the number of worker threads.
class ApplierModelTest : public ::testing::TestWithParam<unsigned> {};

TEST_P(ApplierModelTest, TheReplicaEqualsTheGuestAtEachAppliedEpoch) {
  uint64_t commits = 0;
  uint64_t refusals = 0;
  uint64_t pool_epochs = 0;
  for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    ModelSession session(seed, GetParam());
    for (int step = 0; step < kSteps && !HasFailure(); ++step) session.Step();
    session.Finish();
    commits += session.commits();
    refusals += session.refusals();
    pool_epochs += session.pool_epochs();
  }
  // Every way through the session was taken often.
  EXPECT_GT(commits, 30 * kSeeds);
  EXPECT_GT(refusals, 5 * kSeeds);
  EXPECT_GT(pool_epochs, 10 * kSeeds);
}

INSTANTIATE_TEST_SUITE_P(Threads, ApplierModelTest, ::testing::Values(0u, 2u));

}  // namespace
}  // namespace haven
