// SPDX-License-Identifier: Apache-2.0
#include "bench/codec_replay.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "bench/igzip.h"
#include "engine/base/check.h"
#include "engine/base/random.h"
#include "engine/codec/coded_frame_applier.h"
#include "engine/codec/xbzrle.h"
#include "engine/replica/frame.h"

namespace haven {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kXbzrleHeaderBytes = 11;  // Address and flags, encoding, length.
constexpr size_t kBatch = kMaxCodedPages;

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Aligned as a guest's are.
struct alignas(kPageBytes) GuestPage {
  std::array<std::byte, kPageBytes> bytes;
  bool operator==(const GuestPage&) const = default;
};

// The pages of a guest, and which of them were seen.
struct Memory {
  explicit Memory(uint32_t count) : pages(count), known(count) {}
  std::byte* Page(uint32_t gfn) { return pages[gfn].bytes.data(); }
  void Take(const TraceEpoch& epoch) {
    for (size_t i = 0; i < epoch.gfns.size(); ++i) {
      std::memcpy(Page(epoch.gfns[i]), epoch.Page(i), kPageBytes);
      known[epoch.gfns[i]] = true;
    }
  }
  std::vector<GuestPage> pages;
  std::vector<bool> known;
};

// Size of the engine's raw and zero runs for these pages.
size_t PlainBytes(std::span<const uint32_t> gfns, const std::byte* pages) {
  size_t bytes = 0;
  int last_zero = -1;
  for (size_t i = 0; i < gfns.size(); ++i) {
    const int zero = BestKernels().nonzero_lines(pages + i * kPageBytes, ~uint64_t{0}) == 0 ? 1 : 0;
    if (i == 0 || gfns[i] != gfns[i - 1] + 1 || zero != last_zero) bytes += kFrameHeaderBytes;
    if (zero == 0) bytes += kPageBytes;
    last_zero = zero;
  }
  return bytes;
}

size_t EncodeByXbzrle(const TraceEpoch& epoch, Memory& before, std::span<std::byte> out) {
  size_t bytes = 0;
  for (size_t i = 0; i < epoch.gfns.size(); ++i) {
    const uint32_t gfn = epoch.gfns[i];
    const std::span<const std::byte, kPageBytes> after(epoch.Page(i), kPageBytes);
    std::byte* const kept = before.Page(gfn);
    std::optional<size_t> encoded;
    if (before.known[gfn]) {
      encoded = XbzrleEncode(std::span<const std::byte, kPageBytes>(kept, kPageBytes), after,
                             out.first(kPageBytes));
    }
    if (!encoded.has_value()) std::memcpy(out.data(), after.data(), kPageBytes);
    // QEMU says nothing at all of a page that did not change.
    if (encoded != 0) bytes += kXbzrleHeaderBytes + encoded.value_or(kPageBytes);
    std::memcpy(kept, after.data(), kPageBytes);
    before.known[gfn] = true;
  }
  return bytes;
}

// `compress(from, to)` returns the bytes written, or 0 if they do not fit.
template <typename Compress>
size_t EncodeByCompressor(const TraceEpoch& epoch, std::span<std::byte> out,
                          const Compress& compress) {
  size_t bytes = 0;
  for (size_t i = 0; i < epoch.gfns.size(); i += kBatch) {
    const size_t batch = std::min(kBatch, epoch.gfns.size() - i) * kPageBytes;
    const size_t packed =
        compress(std::span<const std::byte>(epoch.Page(i), batch), out.first(batch));
    bytes += kFrameHeaderBytes + (packed == 0 ? batch : packed);
  }
  return bytes;
}

// One guest and its replica.
class CodecReplay {
 public:
  CodecReplay(const PageTrace& trace, const CodecCase& one)
      : one_(one),
        codec_(OptionsFor(trace, one)),
        guest_(trace.page_count),
        replica_(trace.page_count),
        out_(kBatch * kPageBytes),
        packed_(kBatch * kPageBytes) {
    std::vector<std::byte*> chunks;
    for (uint64_t first = 0; first < trace.page_count; first += GuestMemory::kChunkPages) {
      chunks.push_back(replica_.Page(static_cast<uint32_t>(first)));
    }
    view_ = GuestMemory(chunks, std::vector<uint64_t>(trace.page_count / 64 + 1, ~uint64_t{0}),
                        trace.page_count);
    codec_.BeginSession(HashKey(MakeSecret()));
    Replicate(trace.base, nullptr);
  }

  void Replicate(const TraceEpoch& epoch, ReplayResult* result) {
    // What the plan of an epoch gives the engine.
    runs_.clear();
    for (const uint32_t gfn : epoch.gfns) {
      if (runs_.empty() || runs_.back().first + runs_.back().pages != gfn) {
        runs_.push_back({.domain = 0, .first = gfn, .pages = 0});
      }
      ++runs_.back().pages;
    }
    pages_.clear();
    for (size_t i = 0; i < epoch.gfns.size(); ++i) {
      pages_.push_back({epoch.gfns[i], epoch.Page(i)});
    }
    size_t wire_bytes = 0;
    double encode = 0;
    double decode = 0;
    Clock::time_point begin = Clock::now();
    codec_.BeginEpoch(one_.settings, runs_);
    encode += Seconds(begin);
    for (size_t i = 0; i < pages_.size(); i += kBatch) {
      const std::span<const CodecPage> batch =
          std::span(pages_).subspan(i, std::min(kBatch, pages_.size() - i));
      begin = Clock::now();
      const EncodedFrame frame = codec_.EncodeFrame(worker_, 0, batch, out_);
      const bool coded = frame.outcome == EncodedFrame::Outcome::kCoded;
      const bool plain = frame.outcome == EncodedFrame::Outcome::kPlain;
      std::span<std::byte> body = std::span(out_).first(frame.body_bytes);
      size_t packed = 0;
      if (one_.igzip && (coded || plain)) {
        if (plain) {
          body = std::span(out_).first(batch.size() * kPageBytes);
          std::copy_n(epoch.Page(i), body.size(), body.begin());
        }
        packed = igzip_.Compress(body, std::span(packed_).first(body.size()));
      }
      encode += Seconds(begin);
      if (packed != 0) {
        wire_bytes += kFrameHeaderBytes + PaddedBodyBytes(packed);
      } else if (coded) {
        wire_bytes += kFrameHeaderBytes + PaddedBodyBytes(body.size());
      } else if (plain) {
        wire_bytes += PlainBytes(std::span(epoch.gfns).subspan(i, batch.size()), epoch.Page(i));
      }
      begin = Clock::now();
      if (packed != 0) HAVEN_CHECK(igzip_.Expand(std::span(packed_).first(packed), body));
      if (coded) Apply(frame);
      if (plain) {
        for (const CodecPage& page : batch) {
          std::memcpy(replica_.Page(page.gfn), page.bytes, kPageBytes);
        }
      }
      decode += Seconds(begin);
    }
    begin = Clock::now();
    codec_.Acknowledge();
    encode += Seconds(begin);
    guest_.Take(epoch);
    if (result == nullptr) return;
    result->pages += epoch.gfns.size();
    result->wire_bytes += wire_bytes;
    result->encode_seconds.push_back(encode);
    result->decode_seconds.push_back(decode);
  }

  bool Equal() const { return guest_.pages == replica_.pages; }

 private:
  static CodecOptions OptionsFor(const PageTrace& trace, const CodecCase& one) {
    return {.page_counts = {trace.page_count},
            .block_shift = one.block_shift,
            .cache_pages = one.cache ? trace.page_count : 0,
            .hashes = !one.cache,
            .max_epoch_pages = trace.page_count};
  }

  static std::array<std::byte, HashKey::kBytes> MakeSecret() {
    std::array<std::byte, HashKey::kBytes> secret;
    Random(0x5ec2e7).Fill(secret);
    return secret;
  }

  void Apply(const EncodedFrame& frame) {
    const GuestMemory* const view = &view_;
    HAVEN_CHECK_OK(applier_.Apply(
        {frame.first_gfn, frame.records, std::span(out_).first(frame.body_bytes)}, 0, {&view, 1}));
  }

  const CodecCase& one_;
  PageCodec codec_;
  CodecWorker worker_;
  Igzip igzip_;
  CodedFrameApplier applier_;
  Memory guest_;
  Memory replica_;
  GuestMemory view_;
  std::vector<std::byte> out_;
  std::vector<std::byte> packed_;
  std::vector<CodecRun> runs_;
  std::vector<CodecPage> pages_;
};

}  // namespace

TraceFacts LookAt(const PageTrace& trace) {
  Memory before(trace.page_count);
  before.Take(trace.base);
  uint64_t pages = 0, known = 0, unchanged = 0, zero = 0, bound = 0;
  for (const TraceEpoch& epoch : trace.epochs) {
    for (size_t i = 0; i < epoch.gfns.size(); ++i) {
      const std::byte* after = epoch.Page(i);
      const std::byte* kept = before.Page(epoch.gfns[i]);
      ++pages;
      zero += static_cast<uint64_t>(std::count(after, after + kPageBytes, std::byte{0}));
      const bool has_before = before.known[epoch.gfns[i]];
      known += has_before ? 1 : 0;
      for (size_t at = 0; at < kPageBytes; ++at) {
        const bool same = has_before && kept[at] == after[at];
        unchanged += same ? 1 : 0;
        bound += !same && after[at] != std::byte{0} ? 1 : 0;
      }
    }
    before.Take(epoch);
  }
  const auto share = [](uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  return {.pages = pages,
          .known_share = share(known, pages),
          .unchanged_share = share(unchanged, known * kPageBytes),
          .zero_share = share(zero, pages * kPageBytes),
          .bound_bytes = share(bound, pages)};
}

const char* PeerName(Peer peer) {
  switch (peer) {
    case Peer::kRaw:
      return "raw pages";
    case Peer::kPlain:
      return "plain (no codec)";
    case Peer::kXbzrle:
      return "xbzrle";
    case Peer::kLz4:
      return "lz4";
    case Peer::kIgzip:
      return "igzip -1";
    case Peer::kZstd:
      return "zstd -1";
  }
  return "";
}

void ReplayResult::KeepBest(const ReplayResult& other) {
  const auto keep = [](const std::vector<double>& from, std::vector<double>* best) {
    for (size_t i = 0; i < best->size(); ++i) (*best)[i] = std::min((*best)[i], from[i]);
  };
  keep(other.encode_seconds, &encode_seconds);
  keep(other.decode_seconds, &decode_seconds);
}

ReplayResult ReplayPeer(const PageTrace& trace, Peer peer) {
  ReplayResult result;
  result.name = PeerName(peer);
  Compressor compressor;
  Igzip igzip;
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> zstd(ZSTD_createCCtx(), ZSTD_freeCCtx);
  HAVEN_CHECK(zstd != nullptr);
  const auto lz4 = [&](std::span<const std::byte> from, std::span<std::byte> to) {
    return compressor.Compress(Compression::kLz4, from, to);
  };
  // The library's own level 1, which the engine's is not.
  const auto zstd_1 = [&](std::span<const std::byte> from, std::span<std::byte> to) {
    const size_t bytes =
        ZSTD_compressCCtx(zstd.get(), to.data(), to.size(), from.data(), from.size(), 1);
    return ZSTD_isError(bytes) != 0 ? size_t{0} : bytes;
  };
  std::vector<std::byte> out(kBatch * kPageBytes);
  Memory before(trace.page_count);
  before.Take(trace.base);
  for (const TraceEpoch& epoch : trace.epochs) {
    const Clock::time_point begin = Clock::now();
    switch (peer) {
      case Peer::kRaw:
        for (size_t i = 0; i < epoch.gfns.size(); ++i) {
          std::memcpy(out.data() + i % kBatch * kPageBytes, epoch.Page(i), kPageBytes);
        }
        result.wire_bytes += epoch.gfns.size() * (kPageBytes + kFrameHeaderBytes);
        break;
      case Peer::kPlain:
        result.wire_bytes += PlainBytes(epoch.gfns, epoch.pages.data());
        break;
      case Peer::kXbzrle:
        result.wire_bytes += EncodeByXbzrle(epoch, before, out);
        break;
      case Peer::kLz4:
        result.wire_bytes += EncodeByCompressor(epoch, out, lz4);
        break;
      case Peer::kIgzip:
        result.wire_bytes += EncodeByCompressor(
            epoch, out, [&](auto from, auto to) { return igzip.Compress(from, to); });
        break;
      case Peer::kZstd:
        result.wire_bytes += EncodeByCompressor(epoch, out, zstd_1);
        break;
    }
    result.encode_seconds.push_back(Seconds(begin));
    result.pages += epoch.gfns.size();
  }
  return result;
}

ReplayResult ReplayCodec(const PageTrace& trace, const CodecCase& one) {
  CodecReplay replay(trace, one);
  ReplayResult result;
  result.name = one.name;
  for (const TraceEpoch& epoch : trace.epochs) replay.Replicate(epoch, &result);
  result.equal = replay.Equal();
  return result;
}

}  // namespace haven
