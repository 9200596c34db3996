// SPDX-License-Identifier: Apache-2.0
//
// Makes an epoch's pages small: changed blocks (FGBI), block sharing and compression, each where it
// is cheapest (facts of the method: HAVEN papers; format and rules: coded_page.h).
#ifndef HAVEN_ENGINE_CODEC_PAGE_CODEC_H_
#define HAVEN_ENGINE_CODEC_PAGE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/codec/block_hash.h"
#include "engine/codec/block_index.h"
#include "engine/codec/block_kernels.h"
#include "engine/codec/coded_page.h"
#include "engine/codec/compressor.h"
#include "engine/codec/directory_writer.h"
#include "engine/codec/hash_baseline.h"
#include "engine/codec/page_cache.h"
#include "engine/codec/sharing_gate.h"

namespace haven {

// The index names a block of the cache by slot * 64 + block + 1 in 32 bits.
inline constexpr uint32_t kMaxCachePages = (uint32_t{1} << 26) - 2;

// Fixed for a session.
struct CodecOptions {
  std::vector<uint64_t> page_counts = {};  // Of the domains, in their order; each at most 2^32.
  unsigned block_shift = kMinBlockShift;
  // Pages whose last acknowledged version is kept whole, for all domains together: at most
  // kMaxCachePages.
  uint32_t cache_pages = 0;
  // Keep hashes of the pages that are not in the cache.
  bool hashes = false;
  // Keep hashes of the pages in the cache as well, and count the changed blocks that they would
  // have missed. It changes nothing of what is sent: that follows the bytes where there are bytes,
  // and hashes only with `hashes`.
  bool verify = false;
  // Most pages of one epoch.
  uint64_t max_epoch_pages = 0;
};

// May differ from epoch to epoch.
struct CodecSettings {
  bool changed_blocks = true;
  bool byte_runs = true;  // Changed byte runs where they are smaller than the changed blocks.
  bool sharing = true;
  bool sharing_rests = true;  // Now and then, where it finds little: SharingGate.
  Compression compression = Compression::kNone;
  bool packing = true;  // Literals that are compressed go without their zero words.
};

// A run of frames that an epoch writes.
struct CodecRun {
  uint16_t domain = 0;
  uint32_t first = 0;
  uint32_t pages = 0;
};

struct CodecPage {
  uint32_t gfn = 0;
  const std::byte* bytes = nullptr;  // kPageBytes, in staging.
};

// Sums over frames.
struct CodecCounters {
  uint64_t pages = 0;      // Given.
  uint64_t unchanged = 0;  // Not sent at all.
  uint64_t zero = 0;
  uint64_t same = 0;
  uint64_t raw = 0;
  uint64_t patched = 0;
  uint64_t changed_blocks = 0;  // Of patched pages.
  uint64_t shared_blocks = 0;   // Of these.
  uint64_t literal_bytes = 0;
  uint64_t directory_bytes = 0;
  uint64_t body_bytes = 0;
  uint64_t missed_blocks = 0;  // Only with `verify`: changed, and the hashes were equal.

  void Add(const CodecCounters& other);
};

class PageCodec;

// What one thread needs to encode. Allocates at construction only.
class CodecWorker {
 public:
  CodecWorker();
  const CodecCounters& counters() const { return counters_; }
  void ResetCounters() { counters_ = {}; }
  size_t memory_bytes() const {
    return sizeof(*this) + compressor_.memory_bytes() + content_.size() + directory_.memory_bytes();
  }

 private:
  friend class PageCodec;

  Compressor compressor_;
  // Room for what is to be compressed, with what packing needs before and behind. Without
  // compression the literals go where the frame will be.
  std::vector<std::byte> content_;
  std::span<std::byte> literals_;  // The room in use, for literals and directory.
  size_t literal_bytes_ = 0;       // So many are in it.
  bool overflow_ = false;          // There were more: the frame saves nothing.
  // Changed blocks of the frame that were looked for elsewhere, and those that stand there.
  uint64_t looked_blocks_ = 0;
  uint64_t found_blocks_ = 0;
  DirectoryWriter directory_;
  CodedPage page_;
  // Raw pages of the frame by their first block: index and address.
  struct RawPage {
    uint32_t index = 0;
    const std::byte* bytes = nullptr;
  };
  std::array<RawPage, kMaxCodedPages> raw_pages_;
  CodecCounters counters_;
};

struct EncodedFrame {
  enum class Outcome : uint8_t {
    kCoded,      // `body_bytes` were written, for `records` pages from `first_gfn` on.
    kUnchanged,  // The replica holds these pages: nothing to send.
    kPlain,      // Not smaller than the pages themselves: send them as raw and zero runs.
  };
  Outcome outcome = Outcome::kUnchanged;
  uint32_t first_gfn = 0;
  uint32_t records = 0;
  size_t body_bytes = 0;
};

// The primary's side of one session after the other. What is known of the replica moves with its
// epochs:
//
//   BeginSession(key), then for each epoch
//   BeginEpoch(runs) -> EncodeFrame() for the pages of these runs, on any threads -> Acknowledge()
//                                                                                 or Fail()
//
// All calls but EncodeFrame() come from one thread while no EncodeFrame() runs. At most one epoch
// is open. An encoded epoch may be sent again under other numbers as long as the replica's base is
// the same. After Fail() the pages of the epoch have no baseline; whoever calls it sends them again
// in the next epoch, as the dirty sets do. All memory is allocated at construction; no other call
// allocates.
class PageCodec {
 public:
  explicit PageCodec(const CodecOptions& options);

  // A new session with a secret of its own. Nothing is known of its replica, and no hash that was
  // made by another secret is looked at again. Before the first epoch (checked).
  void BeginSession(const HashKey& key);

  // `runs` are all pages that the epoch writes, without overlap, at most max_epoch_pages (checked).
  void BeginEpoch(const CodecSettings& settings, std::span<const CodecRun> runs);

  // Encodes pages of one domain, ascending, at most kMaxCodedPages (checked), that are in the runs
  // of BeginEpoch(); each page of these is encoded once. Writes the frame's body to `out`, of which
  // it uses no more than the pages' own size. The pages stay unchanged until it returns.
  EncodedFrame EncodeFrame(CodecWorker& worker, uint16_t domain, std::span<const CodecPage> pages,
                           std::span<std::byte> out);

  // The backup has committed the epoch as it was encoded.
  void Acknowledge();
  // It is not known whether it did.
  void Fail();
  // These pages were or will be sent without the codec. No epoch is open (checked).
  void Forget(std::span<const CodecRun> runs);
  // Nothing is known of the replica any more.
  void Reset();

  struct Memory {
    size_t cache_bytes = 0;
    size_t hash_bytes = 0;
    size_t index_bytes = 0;
    size_t epoch_bytes = 0;  // What an epoch writes.

    size_t total() const { return cache_bytes + hash_bytes + index_bytes + epoch_bytes; }
  };
  // What a codec of these options takes, before there is one.
  static Memory MemoryFor(const CodecOptions& options);
  Memory memory() const;
  uint64_t max_epoch_pages() const { return options_.max_epoch_pages; }

  // For tests: how blocks are named in the index. The default is the keyed hash.
  using BlockName = uint64_t (*)(const HashKey& key, const std::byte* block, size_t bytes);
  void set_block_name(BlockName name) { block_name_ = name; }
  // For tests: how changes are found by hashes. Before the first epoch.
  void set_page_hash(HashBaseline::PageHash hash) { hashes_.set_page_hash(hash); }

 private:
  // What is known of a page's change.
  struct Change {
    uint32_t slot = PageCache::kNoSlot;
    const std::byte* before =
        nullptr;         // The version that the replica holds, if its bytes are kept.
    bool known = false;  // `blocks` are those that changed; else it is all of them.
    uint64_t lines = ~uint64_t{0};
    uint64_t blocks = 0;
    bool stored = false;   // The cache has the new version already,
    uint64_t nonzero = 0;  // and these of its lines are not all zero.
  };

  // page_codec_datapath.cc
  // Has the processor fetch what EncodePage() will need of a page first.
  void Prefetch(uint16_t domain, const CodecPage& page) const;
  void EncodePage(CodecWorker& worker, uint16_t domain, const CodecPage& page);
  Change FindChange(CodecWorker& worker, uint16_t domain, const CodecPage& page);
  void StoreBaseline(const CodecPage& page, const Change& change);
  size_t WriteBody(CodecWorker& worker, std::span<std::byte> out);
  size_t WriteCompressed(CodecWorker& worker, std::span<std::byte> stored,
                         std::span<std::byte> out);
  void WriteHeader(const CodecWorker& worker, Compression method, uint16_t flags,
                   std::span<std::byte> out) const;

  // page_patch_datapath.cc
  void WritePatch(CodecWorker& worker, const CodecPage& page, const Change& change);
  bool TrySame(CodecWorker& worker, const CodecPage& page, uint32_t slot);
  // Takes the blocks that are found elsewhere out of `*blocks`. True: the whole page was.
  bool Share(CodecWorker& worker, const CodecPage& page, const Change& change, uint64_t* blocks);
  void WriteRaw(CodecWorker& worker, const CodecPage& page);
  // Takes room for literals; nullptr if there is none.
  static std::byte* TakeRoom(CodecWorker& worker, size_t bytes);

  CodecOptions options_;
  const BlockKernels& kernels_;
  HashKey key_;
  BlockName block_name_;
  PageCache cache_;
  HashBaseline hashes_;
  BlockIndex index_;
  SharingGate sharing_gate_;
  CodecSettings settings_;
  bool sharing_ = false;  // Blocks are looked for elsewhere in the epoch.
  bool in_session_ = false;
  bool open_ = false;
  std::vector<CodecRun> runs_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_PAGE_CODEC_H_
