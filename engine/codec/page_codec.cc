// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/page_codec.h"

#include "engine/base/check.h"
#include "engine/codec/word_packing.h"

namespace haven {

void CodecCounters::Add(const CodecCounters& other) {
  pages += other.pages;
  unchanged += other.unchanged;
  zero += other.zero;
  same += other.same;
  raw += other.raw;
  patched += other.patched;
  changed_blocks += other.changed_blocks;
  shared_blocks += other.shared_blocks;
  literal_bytes += other.literal_bytes;
  directory_bytes += other.directory_bytes;
  body_bytes += other.body_bytes;
  missed_blocks += other.missed_blocks;
}

CodecWorker::CodecWorker()
    : content_(kMaskRoom + kMaxDirectoryBytes + kMaxLiteralBytes + kPackedSlack) {}

namespace {

// The guests' pages if hashes of them are kept.
std::span<const uint64_t> HashedPages(const CodecOptions& options) {
  if (!options.hashes && !options.verify) return {};
  return options.page_counts;
}

size_t IndexedBlocks(const CodecOptions& options) {
  return size_t{options.cache_pages} * (kPageBytes >> options.block_shift);
}

}  // namespace

PageCodec::PageCodec(const CodecOptions& options)
    : options_(options),
      kernels_(BestKernels()),
      block_name_([](const HashKey& secret, const std::byte* block, size_t bytes) {
        return secret.Block(block, bytes);
      }),
      cache_(options.page_counts, options.cache_pages),
      hashes_(HashedPages(options), options.block_shift),
      index_(IndexedBlocks(options)) {
  HAVEN_CHECK_GE(options.block_shift, kMinBlockShift);
  HAVEN_CHECK_LE(options.block_shift, kMaxBlockShift);
  HAVEN_CHECK_LE(options.cache_pages, kMaxCachePages);
  for (const uint64_t pages : options.page_counts) HAVEN_CHECK_LE(pages, uint64_t{1} << 32);
  runs_.reserve(options.max_epoch_pages);
}

void PageCodec::BeginSession(const HashKey& key) {
  key_ = key;
  in_session_ = true;
  open_ = false;
  cache_.Clear();
  hashes_.SetKey(key);
  sharing_gate_.Reset();
}

void PageCodec::BeginEpoch(const CodecSettings& settings, std::span<const CodecRun> runs) {
  HAVEN_CHECK(in_session_ && !open_);
  open_ = true;
  settings_ = settings;
  sharing_ = settings.sharing && (!settings.sharing_rests || sharing_gate_.BeginEpoch());
  runs_.clear();
  uint64_t pages = 0;
  const auto keep_hashes = [this](uint16_t domain, uint32_t gfn, const std::byte* bytes) {
    // Under `verify` they are there already.
    if (options_.hashes && !options_.verify) hashes_.Set(domain, gfn, bytes);
  };
  const PageCache::Evicted evicted = keep_hashes;
  for (const CodecRun& run : runs) {
    pages += run.pages;
    HAVEN_CHECK_LE(pages, options_.max_epoch_pages);
    runs_.push_back(run);
    for (uint32_t i = 0; i < run.pages; ++i) cache_.Claim(run.domain, run.first + i, evicted);
  }
}

void PageCodec::Acknowledge() {
  HAVEN_CHECK(open_);
  open_ = false;
  cache_.Acknowledge();
  if (!hashes_.enabled()) return;
  for (const CodecRun& run : runs_) hashes_.Acknowledge(run.domain, run.first, run.pages);
}

void PageCodec::Fail() {
  HAVEN_CHECK(open_);
  open_ = false;
  cache_.Fail();
  if (!hashes_.enabled()) return;
  for (const CodecRun& run : runs_) hashes_.Forget(run.domain, run.first, run.pages);
}

void PageCodec::Forget(std::span<const CodecRun> runs) {
  HAVEN_CHECK(!open_);
  for (const CodecRun& run : runs) {
    for (uint32_t i = 0; i < run.pages; ++i) cache_.Forget(run.domain, run.first + i);
    if (hashes_.enabled()) hashes_.Forget(run.domain, run.first, run.pages);
  }
}

void PageCodec::Reset() {
  open_ = false;
  cache_.Clear();
  hashes_.Clear();
  sharing_gate_.Forget();
}

PageCodec::Memory PageCodec::MemoryFor(const CodecOptions& options) {
  return {.cache_bytes = PageCache::MemoryFor(options.page_counts, options.cache_pages),
          .hash_bytes = HashBaseline::MemoryFor(HashedPages(options), options.block_shift),
          .index_bytes = BlockIndex::MemoryFor(IndexedBlocks(options)),
          .epoch_bytes = options.max_epoch_pages * sizeof(CodecRun)};
}

PageCodec::Memory PageCodec::memory() const {
  return {.cache_bytes = cache_.memory_bytes(),
          .hash_bytes = hashes_.memory_bytes(),
          .index_bytes = index_.memory_bytes(),
          .epoch_bytes = runs_.capacity() * sizeof(CodecRun)};
}

}  // namespace haven
