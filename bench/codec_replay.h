// SPDX-License-Identifier: Apache-2.0
//
// Sends a trace of dirty pages through one method and measures it.
#ifndef HAVEN_BENCH_CODEC_REPLAY_H_
#define HAVEN_BENCH_CODEC_REPLAY_H_

#include <chrono>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "bench/capture/page_trace.h"
#include "engine/codec/page_codec.h"

namespace haven {

// What the content of a trace allows.
struct TraceFacts {
  uint64_t pages = 0;
  double known_share = 0;      // Of the pages: a version before is known.
  double unchanged_share = 0;  // Of the bytes of these: as before.
  double zero_share = 0;       // Of all bytes.
  double bound_bytes = 0;      // A page: changed, or without a version before, and not zero.
};
TraceFacts LookAt(const PageTrace& trace);

struct ReplayResult {
  std::string name;
  uint64_t pages = 0;
  uint64_t wire_bytes = 0;
  bool equal = true;  // The replica has become what the trace says, as far as there is one.
  // Of each epoch; empty: not measured.
  std::vector<double> encode_seconds;
  std::vector<double> decode_seconds;

  double bytes_per_page() const {
    return static_cast<double>(wire_bytes) / static_cast<double>(pages);
  }
  double encode_gb_s() const { return Speed(encode_seconds); }
  double decode_gb_s() const { return Speed(decode_seconds); }

  // Keeps the shorter of both times for each epoch: other work on the machine only takes time away.
  void KeepBest(const ReplayResult& other);

 private:
  double Speed(const std::vector<double>& epochs) const {
    const double seconds = std::accumulate(epochs.begin(), epochs.end(), 0.0);
    return seconds == 0 ? 0 : static_cast<double>(pages * kPageBytes) / seconds / 1e9;
  }
};

enum class Peer {
  kRaw,  // Whole pages, copied.
  // The engine without codec: raw and zero runs. It looks for zero pages; the others are sent from
  // where they were captured, so they are not copied.
  kPlain,
  kXbzrle,  // A page at a time, 11 bytes of header as in QEMU, every version before in the cache.
  kLz4,     // These three: 64 pages at a time, one frame header each.
  kIgzip,
  kZstd,
};
const char* PeerName(Peer peer);
ReplayResult ReplayPeer(const PageTrace& trace, Peer peer);

struct CodecCase {
  std::string name;
  unsigned block_shift = kMinBlockShift;
  bool cache = true;  // Versions before are kept; else their hashes.
  CodecSettings settings;
  // What comes of it goes through igzip, frame by frame.
  bool igzip = false;
};
// Decodes all of it into a replica.
ReplayResult ReplayCodec(const PageTrace& trace, const CodecCase& one);

}  // namespace haven

#endif  // HAVEN_BENCH_CODEC_REPLAY_H_
