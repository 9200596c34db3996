// SPDX-License-Identifier: Apache-2.0
#include <isa-l/mem_routines.h>

#include <cstring>

#include "engine/base/check.h"
#include "engine/primary/page_encoder.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/frame.h"

namespace haven {
namespace {

// Why the frames can be written over the pages they are made from. Let `free` be the distance from
// the writer's position to the first byte of the run that is still to be encoded. At the beginning
// of a run it is at least one header, because the plan left that much before the run's pages and
// what came before it took no more than the plan gave it. Pages that stay cost one header and then
// move down by as much as they advance both ends: `free` shrinks by a header and is not negative.
// Zero pages cost one header and advance the run by at least a page: `free` is at least a page less
// a header afterwards. Raw and zero stretches alternate within a run, so before each raw stretch
// but the first `free` is at least a page less a header, which the next header fits into:
static_assert(kPageBytes >= 2 * kFrameHeaderBytes);
// and at the end of the run the writer is not beyond the end that was planned.

bool IsZeroPage(const std::byte* page) {
  // The prototype lacks a const; the function only reads.
  return isal_zero_detect(const_cast<std::byte*>(page), kPageBytes) == 0;
}

// Encodes one run and returns how many of its pages are zero.
uint32_t EncodeRun(std::span<std::byte> slot, const PageRun& run, ChunkWriter& writer) {
  uint32_t zero_pages = 0;
  const std::byte* from = slot.data() + run.slot_offset;
  bool zero = IsZeroPage(from);
  for (uint32_t done = 0; done < run.pages;) {
    uint32_t pages = 1;
    bool next_zero = zero;
    while (done + pages < run.pages) {
      next_zero = IsZeroPage(from + size_t{pages} * kPageBytes);
      if (next_zero != zero) break;
      ++pages;
    }
    if (zero) {
      HAVEN_CHECK(writer.AppendZeroRun(run.domain, run.first + done, pages));
      zero_pages += pages;
    } else {
      const std::span<std::byte> to = writer.AppendRawRun(run.domain, run.first + done, pages);
      HAVEN_CHECK(!to.empty() && to.data() <= from)
          << "domain=" << run.domain << " gfn=" << run.first + done << " pages=" << pages;
      if (to.data() != from) std::memmove(to.data(), from, to.size());
    }
    from += size_t{pages} * kPageBytes;
    done += pages;
    zero = next_zero;
  }
  return zero_pages;
}

}  // namespace

EncodedSlot EncodeSlot(std::span<std::byte> slot, const SlotContent& content,
                       const ChunkIdentity& identity) {
  EncodedSlot encoded;
  ChunkWriter writer(slot);
  for (const PageRun& run : content.runs) encoded.zero_pages += EncodeRun(slot, run, writer);
  for (const StateFragment& fragment : content.fragments) {
    HAVEN_CHECK(writer.AppendState(
        fragment.domain, fragment.offset, fragment.total,
        content.states[fragment.domain].subspan(fragment.offset, fragment.bytes)))
        << "domain=" << fragment.domain << " offset=" << fragment.offset;
  }
  encoded.totals = writer.Finish(identity);
  return encoded;
}

}  // namespace haven
