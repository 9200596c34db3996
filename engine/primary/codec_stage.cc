// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/codec_stage.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

CodecOptions MakeOptions(const CodecStageOptions& options, std::vector<uint64_t> page_counts) {
  const uint64_t all = std::accumulate(page_counts.begin(), page_counts.end(), uint64_t{0});
  CodecOptions made;
  made.page_counts = std::move(page_counts);
  made.block_shift = options.block_shift;
  made.cache_pages = static_cast<uint32_t>(
      std::min<uint64_t>({options.cache_bytes / kPageBytes, all, kMaxCachePages}));
  made.hashes = options.hashes;
  made.verify = options.verify;
  made.max_epoch_pages =
      options.max_epoch_pages == 0 ? all : std::min(all, options.max_epoch_pages);
  return made;
}

}  // namespace

CodecStage::Memory CodecStage::MemoryFor(const CodecStageOptions& options,
                                         const std::vector<uint64_t>& page_counts,
                                         unsigned threads) {
  const CodecOptions made = MakeOptions(options, page_counts);
  return {.codec = PageCodec::MemoryFor(made),
          .worker_bytes = threads * (CodecWorker().memory_bytes() + uint64_t{kMaxLiteralBytes}),
          .epoch_bytes = made.max_epoch_pages * sizeof(CodecRun)};
}

CodecStage::Memory CodecStage::memory() const {
  Memory taken;
  taken.codec = codec_.memory();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    taken.worker_bytes += worker->codec.memory_bytes() + worker->body.size();
  }
  taken.epoch_bytes = runs_.size() * sizeof(CodecRun) +
                      (slot_totals_.size() + chunks_.size()) * sizeof(ChunkTotals) +
                      chunk_slots_.size() * sizeof(uint32_t);
  taken.image_bytes = image_.size();
  return taken;
}

CodecStage::CodecStage(const CodecStageOptions& options, std::vector<uint64_t> page_counts,
                       unsigned threads)
    : options_(options),
      threads_(threads),
      codec_(MakeOptions(options, std::move(page_counts))),
      mode_(options.mode) {
  SetMode(options.mode);
  HAVEN_CHECK_GE(threads, 1u);
  for (unsigned i = 0; i < threads; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->body.resize(kMaxLiteralBytes);
  }
  runs_.resize(codec_.max_epoch_pages());
}

absl::Status CodecStage::BeginSession(uint64_t features, std::span<std::byte> image,
                                      uint32_t slot_bytes) {
  HAVEN_ASSIGN_OR_RETURN(const HashKey key, options_.draw_key());
  codec_.BeginSession(key);
  policy_.ForgetBaselines();
  knows_nothing_ = true;
  open_ = sent_ = false;
  features_ = image.empty() ? 0 : features;
  image_ = image;
  slot_bytes_ = slot_bytes;
  const size_t slots = image.size() / slot_bytes;
  slot_totals_.assign(slots, ChunkTotals());
  chunks_.assign(slots, ChunkTotals());
  chunk_slots_.assign(slots, 0);
  return absl::OkStatus();
}

void CodecStage::SetMode(CodecMode mode) {
  mode_ = mode;
  if (mode == CodecMode::kAuto) {
    policy_.SetAutomatic();
  } else {
    policy_.SetFixed(ChoiceOf(mode, CodecLevel::kOff).level);
  }
}

CodecReport CodecStage::Report() const {
  CodecReport report;
  report.mode = mode_;
  report.level = choice_.level;
  report.agreed =
      Restrict(ChoiceOf(CodecMode::kBlocks, CodecLevel::kOff), features_).level != CodecLevel::kOff;
  report.coded_epochs = coded_epochs_;
  report.plain_epochs = plain_epochs_;
  report.capped_epochs = capped_epochs_;
  report.memory_bytes = memory().total();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    report.pages.Add(worker->codec.counters());
  }
  return report;
}

}  // namespace haven
