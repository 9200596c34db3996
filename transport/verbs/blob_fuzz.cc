// SPDX-License-Identifier: Apache-2.0
//
// What an authenticated peer, or anybody who sends a connection request, can make the decoders see.
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/check.h"
#include "transport/verbs/blob.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  // What is accepted is in its range, and is written as it was read.
  const absl::StatusOr<haven::VerbsRegionBlob> region = haven::DecodeVerbsRegionBlob(text);
  if (region.ok()) {
    HAVEN_CHECK_LE(region->bytes, haven::kMaxRegionBytes);
    HAVEN_CHECK_LE(region->address, UINT64_MAX - region->bytes);
    HAVEN_CHECK(haven::EncodeVerbsRegionBlob(*region) == text);
  }
  const absl::StatusOr<haven::VerbsLinkBlob> link = haven::DecodeVerbsLinkBlob(text);
  if (link.ok()) {
    HAVEN_CHECK(!link->ways.empty() && link->ways.size() <= haven::kMaxRails);
    for (const haven::LinkWayBlob& way : link->ways) HAVEN_CHECK(way.address.IsUnicast());
    HAVEN_CHECK(haven::EncodeVerbsLinkBlob(*link) == text);
  }
  const absl::StatusOr<haven::Join> join =
      haven::DecodeJoin(std::as_bytes(std::span(text.data(), text.size())));
  if (join.ok()) HAVEN_CHECK_LT(join->rail, haven::kMaxRails);
  return 0;
}
