// SPDX-License-Identifier: Apache-2.0
//
// A trace of dirty pages: what the pages of a running program held at the end of each interval.
// Made by capture_pages, replayed by codec_bench.
#ifndef HAVEN_BENCH_CAPTURE_PAGE_TRACE_H_
#define HAVEN_BENCH_CAPTURE_PAGE_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/replica/identity.h"

namespace haven {

// Pages and their content at one instant, ascending by frame number, no frame number twice.
struct TraceEpoch {
  std::vector<uint32_t> gfns;
  std::vector<std::byte> pages;  // kPageBytes for each frame number, in the same order.

  const std::byte* Page(size_t index) const { return pages.data() + index * kPageBytes; }
};

struct PageTrace {
  std::string origin;       // How it was made, for people.
  uint32_t page_count = 0;  // Highest frame number plus one.
  // What pages that are written later held when the recording began. A page that is in an epoch and
  // not here appeared during the recording: nothing is known of what it held before.
  TraceEpoch base;
  std::vector<TraceEpoch> epochs;  // Pages whose content changed during each interval.
};

// The trace as bytes, compressed. Unavailable: the compressor failed.
absl::StatusOr<std::vector<std::byte>> EncodeTrace(const PageTrace& trace);

// DataLoss: not a whole trace, or one that breaks the rules above; names what is wrong.
absl::StatusOr<PageTrace> DecodeTrace(const std::vector<std::byte>& bytes);

// Errors of DecodeTrace() and of reading the file, with its path.
absl::StatusOr<PageTrace> ReadTrace(const std::string& path);

// Writes the file in one go. Errors of EncodeTrace() and of writing, with the path.
absl::Status WriteTrace(const std::string& path, const PageTrace& trace);

}  // namespace haven

#endif  // HAVEN_BENCH_CAPTURE_PAGE_TRACE_H_
