// SPDX-License-Identifier: Apache-2.0
//
// The backup's data path: how fast an epoch is verified and applied, against what no implementation
// can do without: CRC32C over the same bytes, then, as nothing may be applied before all of it is
// good, memcpy to the same pages. Both are measured in turn, in the same run.
//
//   pages     raw pages of the epoch, spread over a guest of kGuestPages
//   run       pages in a row
//   recheck   1: Applier::Options::recheck_crc
//   threads   threads that copy, in both
#include <benchmark/benchmark.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/backup/applier.h"
#include "engine/backup/journal_reader_test_util.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/replica/chunk.h"
#include "engine/replica/frame.h"

namespace haven {
namespace {

constexpr uint64_t kGuestPages = uint64_t{1} << 18;  // 1 GiB.
// Images of epochs in turn: several times the last-level cache.
constexpr uint64_t kColdBytes = uint64_t{256} << 20;
constexpr uint32_t kStateBytes = 16384;
constexpr SessionId kSession = 1;
constexpr LinkNumber kLink = 1;

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The epoch's pages are drawn anew for every image, so that neither journal nor guest lies in the
// cache.
TestEpoch MakeEpoch(Random& random, uint64_t pages, uint32_t run) {
  TestEpoch epoch{.epoch = 1, .base = kNoEpoch};
  const uint64_t runs = pages / run;
  const uint64_t stride = kGuestPages / runs;
  for (uint64_t i = 0; i < runs; ++i) {
    TestRun made{.domain = 0, .first = i * stride, .pages = run};
    if (stride > run) made.first += random.Below(stride - run);
    made.bytes.resize(size_t{run} * kPageBytes);
    random.Fill(made.bytes);
    epoch.runs.push_back(std::move(made));
  }
  epoch.states = {std::vector<std::byte>(kStateBytes, std::byte{1})};
  return epoch;
}

uint32_t ImageCount(uint64_t pages) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(kColdBytes / (pages * kPageBytes), 2, 64));
}

// A ring that holds exactly the images, one after the other.
JournalGeometry MakeGeometry(uint64_t pages, uint32_t run) {
  JournalGeometry geometry{.slot_bytes = kDefaultSlotBytes, .ring_slots = kMinRingSlots};
  Random random(1);
  TestJournal sizing({}, geometry, kSession);
  geometry.ring_slots = sizing.Encode(MakeEpoch(random, pages, run), kLink, 1) * ImageCount(pages);
  return geometry;
}

// A session in which the same few epochs arrive again and again, each time under the next number.
class Session {
 public:
  Session(uint64_t pages, uint32_t run, unsigned threads, bool recheck_crc)
      : backup_(MakeGeometry(pages, run),
                {{.pages = kGuestPages, .max_state_bytes = kStateBytes, .prefault = true}},
                kSession) {
    // The thread that calls Drain() copies, too.
    absl::StatusOr<std::unique_ptr<Applier>> applier =
        Applier::Create({.region = backup_.region,
                         .geometry = backup_.geometry,
                         .replicas = backup_.domains(),
                         .threads = threads - 1,
                         .recheck_crc = recheck_crc});
    HAVEN_CHECK_OK(applier);
    applier_ = *std::move(applier);
    backup_.reader.BeginLink(kLink);
    Random random(1);
    for (uint32_t image = 0; image < ImageCount(pages); ++image) {
      const RingPosition first = records_.empty() ? 0 : image * uint64_t{chunk_count()};
      records_.push_back(backup_.journal.Write(MakeEpoch(random, pages, run), kLink, 1, first));
      for (uint32_t index = 0; index < chunk_count(); ++index) {
        headers_.push_back(Header(image, index));
      }
    }
  }

  // Puts the next epoch into the journal: an image under a new number.
  void Arrive() {
    const RingPosition next = backup_.ledger.next();
    arrived_ = static_cast<uint32_t>(next / chunk_count() % records_.size());
    CommitRecord& record = records_[arrived_];
    record.base_epoch = backup_.reader.committed_epoch();
    record.epoch = record.base_epoch + 1;
    record.placement.first_position = next;
    EpochTotals totals;
    for (uint32_t index = 0; index < chunk_count(); ++index) {
      ChunkHeader& header = headers_[arrived_ * chunk_count() + index];
      header.identity.epoch = record.epoch;
      ChunkTotals chunk;
      chunk.chunk_crc = EncodeChunkHeader(header, Slot(arrived_, index).first<kChunkHeaderBytes>());
      totals.Add(chunk);
    }
    record.totals.chunks_crc = totals.chunks_crc;
    backup_.journal.WriteRecord(record);
  }

  VerifiedEpoch Verify() {
    const Epoch epoch = records_[arrived_].epoch;
    auto committed = backup_.reader.OnImmediate(CommitImmediate(epoch));
    HAVEN_CHECK_OK(committed);
    return **committed;
  }

  VerifiedEpoch VerifyFinal() {
    absl::StatusOr<VerifiedEpoch> committed = backup_.reader.TryFinal();
    HAVEN_CHECK_OK(committed);
    return *committed;
  }

  void Apply(const VerifiedEpoch& epoch) {
    applier_->Submit(epoch);
    HAVEN_CHECK_OK(applier_->Drain());
    HAVEN_CHECK_OK(applier_->PopFinished()->status);
    backup_.ledger.Release(epoch.epoch());
  }

  uint32_t images() const { return static_cast<uint32_t>(records_.size()); }
  // The image of the epoch that arrived last.
  uint32_t arrived() const { return arrived_; }
  uint32_t chunk_count() const { return records_[0].totals.chunk_count; }
  std::span<const std::byte> Payload(uint32_t image, uint32_t index) {
    return ChunkPayload(Slot(image, index), headers_[image * chunk_count() + index]);
  }
  const GuestMemory& memory() const { return backup_.replicas[0]->memory(); }
  // Of one epoch.
  double page_bytes() const {
    return static_cast<double>(records_[0].totals.page_count * kPageBytes);
  }

 private:
  std::span<std::byte> Slot(uint32_t image, uint32_t index) {
    return backup_.journal.Slot(image * chunk_count() + index);
  }

  ChunkHeader Header(uint32_t image, uint32_t index) {
    ChunkHeader header;
    uint32_t crc = 0;
    HAVEN_CHECK_OK(DecodeChunkHeader(Slot(image, index), &header, &crc));
    return header;
  }

  TestBackup backup_;
  std::unique_ptr<Applier> applier_;
  std::vector<CommitRecord> records_;  // By image.
  std::vector<ChunkHeader> headers_;   // By image and chunk.
  uint32_t arrived_ = 0;
};

// CRC32C over every payload, then memcpy of every run to its pages, shared by `threads` threads.
class Baseline {
 public:
  Baseline(Session& session, unsigned threads) : threads_(threads), barrier_(threads) {
    for (uint32_t image = 0; image < session.images(); ++image) {
      images_.emplace_back();
      for (uint32_t index = 0; index < session.chunk_count(); ++index) {
        AddChunk(session.memory(), session.Payload(image, index), &images_.back());
      }
    }
    for (unsigned i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { Help(i); });
  }

  ~Baseline() {
    stop_ = true;
    if (!helpers_.empty()) barrier_.arrive_and_wait();
    for (std::thread& helper : helpers_) helper.join();
  }

  void Run(uint32_t image) {
    image_ = &images_[image];
    uint32_t crc = 0;
    for (const std::span<const std::byte> payload : image_->payloads) crc ^= Crc32c(payload);
    benchmark::DoNotOptimize(crc);
    barrier_.arrive_and_wait();
    CopyShare(0);
    barrier_.arrive_and_wait();
  }

 private:
  struct Image {
    std::vector<std::span<const std::byte>> payloads;
    std::vector<std::pair<std::byte*, const std::byte*>> copies;  // Pages: to, from.
  };

  static void AddChunk(const GuestMemory& memory, std::span<const std::byte> payload,
                       Image* image) {
    image->payloads.push_back(payload);
    FrameCursor cursor(payload);
    Frame frame;
    while (cursor.Next(&frame)) {
      if (frame.type != FrameType::kRawRun) continue;
      for (uint32_t page = 0; page < frame.count; ++page) {
        image->copies.emplace_back(memory.Page(frame.first_gfn() + page),
                                   frame.body.data() + page * kPageBytes);
      }
    }
  }

  void CopyShare(unsigned share) {
    const auto& copies = image_->copies;
    const size_t end = copies.size() * (share + 1) / threads_;
    for (size_t i = copies.size() * share / threads_; i < end; ++i) {
      std::memcpy(copies[i].first, copies[i].second, kPageBytes);
    }
  }

  void Help(unsigned share) {
    while (true) {
      barrier_.arrive_and_wait();
      if (stop_) return;
      CopyShare(share);
      barrier_.arrive_and_wait();
    }
  }

  const unsigned threads_;
  std::vector<Image> images_;
  const Image* image_ = nullptr;  // Ordered by barrier_, as is stop_.
  std::barrier<> barrier_;
  bool stop_ = false;
  std::vector<std::thread> helpers_;
};

// Reported: GB/s of page bytes, and the median of the iterations' ratios to the baseline.
void BM_VerifyAndApply(benchmark::State& state) {
  const unsigned threads = static_cast<unsigned>(state.range(3));
  Session session(static_cast<uint64_t>(state.range(0)), static_cast<uint32_t>(state.range(1)),
                  threads, state.range(2) != 0);
  Baseline baseline(session, threads);
  std::vector<double> verify;
  std::vector<double> apply;
  std::vector<double> least;
  std::vector<double> ratios;
  for (auto _ : state) {
    session.Arrive();
    const Clock::time_point start = Clock::now();
    const VerifiedEpoch epoch = session.Verify();
    const Clock::time_point verified = Clock::now();
    session.Apply(epoch);
    const Clock::time_point applied = Clock::now();
    // Another image, which is as cold as the first was.
    baseline.Run((session.arrived() + session.images() / 2) % session.images());
    const Clock::time_point end = Clock::now();
    state.SetIterationTime(Seconds(start, applied));
    verify.push_back(session.page_bytes() / Seconds(start, verified));
    apply.push_back(session.page_bytes() / Seconds(verified, applied));
    least.push_back(session.page_bytes() / Seconds(applied, end));
    ratios.push_back(Seconds(applied, end) / Seconds(start, applied));
  }
  state.SetBytesProcessed(static_cast<int64_t>(session.page_bytes()) *
                          static_cast<int64_t>(state.iterations()));
  state.counters["verify_GBps"] = Median(verify) / 1e9;
  state.counters["apply_GBps"] = Median(apply) / 1e9;
  state.counters["crc_memcpy_GBps"] = Median(least) / 1e9;
  state.counters["ratio"] = Median(ratios);
  state.SetLabel("guest 1 GiB, slots 256 KiB");
}
BENCHMARK(BM_VerifyAndApply)
    ->ArgNames({"pages", "run", "recheck", "threads"})
    ->ArgsProduct({{1024, 16384, 65536}, {1, 16}, {0, 1}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// What a promotion waits for after the cut-off, if the whole last epoch is still to be looked at:
// it must be in proportion to the epoch and to nothing else.
void BM_FinalApply(benchmark::State& state) {
  Session session(static_cast<uint64_t>(state.range(0)), 1, static_cast<unsigned>(state.range(1)),
                  /*recheck_crc=*/true);
  std::vector<double> times;
  for (auto _ : state) {
    session.Arrive();
    const Clock::time_point start = Clock::now();
    session.Apply(session.VerifyFinal());
    times.push_back(Seconds(start, Clock::now()));
    state.SetIterationTime(times.back());
  }
  state.counters["ns_per_page"] = Median(times) * 1e9 / static_cast<double>(state.range(0));
  state.SetLabel("guest 1 GiB, slots 256 KiB, single pages");
}
BENCHMARK(BM_FinalApply)
    ->ArgNames({"pages", "threads"})
    ->ArgsProduct({{1, 256, 1024, 4096, 16384, 65536, 262144}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace haven
