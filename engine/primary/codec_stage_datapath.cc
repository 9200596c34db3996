// SPDX-License-Identifier: Apache-2.0
#include <isa-l/mem_routines.h>

#include <algorithm>
#include <array>

#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/primary/codec_stage.h"
#include "engine/replica/chunk_writer.h"

namespace haven {
namespace {

// Slots that one thread encodes in a row at most: their frames share chunks, so that a small epoch
// is few large WRITEs, and the threads finish together.
constexpr uint32_t kMaxRow = 16;
constexpr uint32_t kRowsPerThread = 4;

// What a page is taken to cost one thread at a level that has not been measured yet, by CodecLevel.
constexpr std::array<int64_t, kCodecLevels> kGuessNs = {0, 3 * kNsPerUs, 8 * kNsPerUs,
                                                        20 * kNsPerUs};

bool IsZeroPage(const std::byte* page) {
  // The prototype lacks a const; the function only reads.
  return isal_zero_detect(const_cast<std::byte*>(page), kPageBytes) == 0;
}

}  // namespace

// Where a row of slots goes: frame by frame into as few chunks as they fit, from the row's first
// slot on.
//
// Why a row never needs more chunks than it has slots. What comes of a planned slot is never larger
// than the slot: a coded frame takes at least two frame headers less than its pages, which pays for
// its own header and for that of plain pages behind it, and zero pages save more than their
// headers. A chunk is closed when a frame does not fit any more; that frame and all that come
// behind it from the same planned slot fit into the next one. So each planned slot closes one chunk
// at most.
class CodecStage::Sink {
 public:
  Sink(const CodecStage& stage, uint32_t slot, const ChunkIdentity& identity,
       std::span<ChunkTotals> totals)
      : stage_(stage),
        slot_(slot),
        identity_(identity),
        totals_(totals),
        writer_(stage.Slot(slot)) {}

  void Coded(uint16_t domain, const EncodedFrame& frame, std::span<const std::byte> body) {
    FlushPlain();
    if (writer_.AppendCoded(domain, frame.first_gfn, frame.records, body)) return;
    NextChunk();
    HAVEN_CHECK(writer_.AppendCoded(domain, frame.first_gfn, frame.records, body));
  }

  // Pages that lie one behind the other become one run, as they were planned.
  void Plain(uint16_t domain, const CodecPage& page) {
    const bool next = plain_pages_ != 0 && domain == plain_domain_ &&
                      page.gfn == plain_first_ + plain_pages_ &&
                      page.bytes == plain_ + size_t{plain_pages_} * kPageBytes;
    if (!next) {
      FlushPlain();
      plain_domain_ = domain;
      plain_first_ = page.gfn;
      plain_ = page.bytes;
    }
    ++plain_pages_;
  }

  void FlushPlain() {
    for (uint32_t done = 0; done < plain_pages_;) {
      const std::byte* from = plain_ + size_t{done} * kPageBytes;
      const bool zero = IsZeroPage(from);
      uint32_t pages = 1;
      while (done + pages < plain_pages_ && IsZeroPage(from + size_t{pages} * kPageBytes) == zero) {
        ++pages;
      }
      PutRun(zero, plain_first_ + done, pages, from);
      done += pages;
    }
    plain_pages_ = 0;
  }

  void State(const StateFragment& fragment, std::span<const std::byte> bytes) {
    if (writer_.AppendState(fragment.domain, fragment.offset, fragment.total, bytes)) return;
    NextChunk();
    HAVEN_CHECK(writer_.AppendState(fragment.domain, fragment.offset, fragment.total, bytes));
  }

  // Ends the last chunk. Its index comes when it is known how many chunks there are before it.
  void Finish() {
    if (!writer_.empty()) totals_[slot_] = writer_.Finish(identity_);
  }

 private:
  void NextChunk() {
    Finish();
    ++slot_;
    writer_.Reset(stage_.Slot(slot_));
  }

  bool TryRun(bool zero, Gfn first, uint32_t pages, const std::byte* from) {
    if (zero) return writer_.AppendZeroRun(plain_domain_, first, pages);
    const std::span<std::byte> to = writer_.AppendRawRun(plain_domain_, first, pages);
    if (to.empty()) return false;
    std::copy_n(from, to.size(), to.data());
    return true;
  }

  void PutRun(bool zero, Gfn first, uint32_t pages, const std::byte* from) {
    if (TryRun(zero, first, pages, from)) return;
    NextChunk();
    HAVEN_CHECK(TryRun(zero, first, pages, from)) << "gfn=" << first << " pages=" << pages;
  }

  const CodecStage& stage_;
  uint32_t slot_;
  const ChunkIdentity& identity_;
  const std::span<ChunkTotals> totals_;
  ChunkWriter writer_;

  // Pages that go plain and are not written yet.
  uint16_t plain_domain_ = 0;
  Gfn plain_first_ = 0;
  uint32_t plain_pages_ = 0;
  const std::byte* plain_ = nullptr;
};

bool CodecStage::Choose(const EpochPlan& plan) {
  HAVEN_CHECK(!open_);
  const CodecLevel automatic = features_ == 0 ? CodecLevel::kOff : policy_.Decide();
  choice_ = Restrict(ChoiceOf(mode_, automatic), features_);
  const CodecLevel capped = Cap(choice_.level, plan.pages());
  if (capped != choice_.level) {
    ++capped_epochs_;
    choice_ = Restrict(capped == CodecLevel::kOff
                           ? CodecChoice()
                           : CodecChoice{.level = capped, .settings = LevelSettings(capped)},
                       features_);
  }
  if (plan.pages() == 0) choice_.level = CodecLevel::kOff;
  sent_ = timed_ = true;
  if (choice_.level != CodecLevel::kOff) {
    BeginEpoch(plan);
    ++coded_epochs_;
    return true;
  }
  ++plain_epochs_;
  // Pages that the codec does not see change without its knowledge.
  if (!knows_nothing_ && plan.pages() != 0 && !HAVEN_MUTANT(kBaselineSurvivesPlain)) {
    codec_.Reset();
    knows_nothing_ = true;
  }
  return false;
}

CodecLevel CodecStage::Cap(CodecLevel level, uint64_t pages) const {
  for (; level != CodecLevel::kOff; level = static_cast<CodecLevel>(static_cast<int>(level) - 1)) {
    const double measured = policy_.latest_encode_ns_per_page(level);
    const double cost = measured > 0 ? measured
                                     : static_cast<double>(kGuessNs[static_cast<size_t>(level)]) /
                                           static_cast<double>(threads_);
    if (static_cast<double>(pages) * cost <= static_cast<double>(kMaxEncodeNs)) break;
  }
  return level;
}

void CodecStage::BeginEpoch(const EpochPlan& plan) {
  const std::span<const PageRun> planned = plan.runs();
  HAVEN_CHECK_LE(planned.size(), runs_.size());
  for (size_t i = 0; i < planned.size(); ++i) {
    runs_[i] = {.domain = planned[i].domain,
                .first = static_cast<uint32_t>(planned[i].first),
                .pages = planned[i].pages};
  }
  codec_.BeginEpoch(choice_.settings, std::span(runs_).first(planned.size()));
  open_ = true;
  knows_nothing_ = false;
}

const CodecStage::Image& CodecStage::Encode(const EpochPlan& plan,
                                            std::span<const std::byte> staging,
                                            std::span<const std::span<const std::byte>> states,
                                            const ChunkIdentity& identity, CopyPool& pool) {
  HAVEN_CHECK(open_) << "epoch=" << identity.epoch;
  const uint32_t slots = static_cast<uint32_t>(plan.slots().size());
  HAVEN_CHECK_LE(slots, slot_totals_.size()) << "epoch=" << identity.epoch;
  HAVEN_CHECK_EQ(plan.slot_bytes(), slot_bytes_);
  std::fill_n(slot_totals_.begin(), slots, ChunkTotals());
  const uint32_t row = std::clamp(slots / (threads_ * kRowsPerThread), 1u, kMaxRow);
  pool.Run((slots + row - 1) / row, [&](uint32_t i) {
    Worker& worker = TakeWorker();
    const std::span<const PlannedSlot> own =
        plan.slots().subspan(size_t{i} * row, std::min(row, slots - i * row));
    Sink sink(*this, i * row, identity, slot_totals_);
    EncodeRow(plan, own, staging.subspan(size_t{i} * row * slot_bytes_), states, worker, sink);
    worker.taken.store(false, std::memory_order_release);
  });
  Gather(slots);
  return result_;
}

// There is one for each thread that can ask.
CodecStage::Worker& CodecStage::TakeWorker() {
  for (;;) {
    for (const std::unique_ptr<Worker>& worker : workers_) {
      if (!worker->taken.exchange(true, std::memory_order_acquire)) return *worker;
    }
  }
}

// `staging` begins with the row.
void CodecStage::EncodeRow(const EpochPlan& plan, std::span<const PlannedSlot> slots,
                           std::span<const std::byte> staging,
                           std::span<const std::span<const std::byte>> states, Worker& worker,
                           Sink& sink) {
  for (size_t i = 0; i < slots.size(); ++i) {
    EncodePages(staging.subspan(i * slot_bytes_, slot_bytes_), plan.SlotRuns(slots[i]), worker,
                sink);
    for (const StateFragment& fragment : plan.SlotFragments(slots[i])) {
      sink.State(fragment, states[fragment.domain].subspan(fragment.offset, fragment.bytes));
    }
  }
  sink.Finish();
}

// A frame's pages are of one domain and one slot.
void CodecStage::EncodePages(std::span<const std::byte> slot, std::span<const PageRun> runs,
                             Worker& worker, Sink& sink) {
  std::array<CodecPage, kMaxCodedPages> batch;
  size_t pages = 0;
  uint16_t domain = 0;
  const auto flush = [&] {
    if (pages != 0) EncodeBatch(domain, std::span(batch).first(pages), worker, sink);
    pages = 0;
  };
  for (const PageRun& run : runs) {
    if (run.domain != domain) flush();
    domain = run.domain;
    for (uint32_t i = 0; i < run.pages; ++i) {
      if (pages == batch.size()) flush();
      batch[pages++] = {.gfn = static_cast<uint32_t>(run.first + i),
                        .bytes = slot.data() + run.slot_offset + size_t{i} * kPageBytes};
    }
  }
  flush();
  sink.FlushPlain();
}

void CodecStage::EncodeBatch(uint16_t domain, std::span<const CodecPage> pages, Worker& worker,
                             Sink& sink) {
  const EncodedFrame frame = codec_.EncodeFrame(worker.codec, domain, pages, worker.body);
  if (frame.outcome == EncodedFrame::Outcome::kUnchanged) return;
  const bool coded = frame.outcome == EncodedFrame::Outcome::kCoded &&
                     frame.body_bytes + 2 * kFrameHeaderBytes <= pages.size() * kPageBytes;
  if (coded) return sink.Coded(domain, frame, std::span(worker.body).first(frame.body_bytes));
  for (const CodecPage& page : pages) sink.Plain(domain, page);
}

// The chunks in their order, each with its index.
void CodecStage::Gather(uint32_t slots) {
  size_t chunks = 0;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    ChunkTotals& totals = slot_totals_[slot];
    if (totals.frame_count == 0) continue;
    ChunkHeader header;
    uint32_t old_crc = 0;
    HAVEN_CHECK_OK(DecodeChunkHeader(Slot(slot), &header, &old_crc));
    header.identity.index = static_cast<uint32_t>(chunks);
    totals.chunk_crc = EncodeChunkHeader(header, Slot(slot).first<kChunkHeaderBytes>());
    chunks_[chunks] = totals;
    chunk_slots_[chunks] = slot;
    ++chunks;
  }
  uint64_t zero_pages = 0;
  for (const std::unique_ptr<Worker>& worker : workers_)
    zero_pages += worker->codec.counters().zero;
  result_ = {.chunks = std::span(chunks_).first(chunks),
             .slots = std::span(chunk_slots_).first(chunks),
             .zero_pages = zero_pages - zero_pages_before_};
  zero_pages_before_ = zero_pages;
}

void CodecStage::NoteEncoded(uint64_t pages, uint64_t wire_bytes, int64_t encode_ns) {
  sample_ = {.level = choice_.level,
             .pages = pages,
             .wire_bytes = wire_bytes,
             .encode_ns = encode_ns,
             .wire_ns = 0};
}

void CodecStage::Acknowledge(int64_t wire_ns) {
  if (open_) codec_.Acknowledge();
  open_ = false;
  if (!sent_) return;
  sent_ = false;
  sample_.wire_ns = wire_ns;
  if (timed_ && features_ != 0) policy_.Add(sample_);
}

void CodecStage::Fail() {
  if (open_ && HAVEN_MUTANT(kBaselineBeforeAck)) {
    codec_.Acknowledge();
  } else if (open_) {
    codec_.Fail();
  }
  open_ = false;
  if (!sent_) return;
  sent_ = false;
  policy_.ForgetBaselines();
}

}  // namespace haven
