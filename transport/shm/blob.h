// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_BLOB_H_
#define HAVEN_TRANSPORT_SHM_BLOB_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/shm/random_token.h"

namespace haven {

// What Endpoint::Offer and Endpoint::PrepareLink hand out: little-endian, of fixed length. The
// descriptors that belong to it travel on the rendezvous under the same token.

// magic u32, kind u16 = 1, version u16 = 1, token[16], region id u32, bytes u64.
struct RegionBlob {
  Token token{};
  uint32_t region = 0;  // The owner's id, below kMaxRegions; the key of the RemoteRegion.
  uint64_t bytes = 0;   // Whole pages, 1 page to kMaxSharedBytes.
};
std::string EncodeRegionBlob(const RegionBlob& blob);
absl::StatusOr<RegionBlob> DecodeRegionBlob(absl::string_view text);  // InvalidArgument.

// magic u32, kind u16 = 2, version u16 = 1, token[16].
struct LinkBlob {
  Token token{};
};
std::string EncodeLinkBlob(const LinkBlob& blob);
absl::StatusOr<LinkBlob> DecodeLinkBlob(absl::string_view text);  // InvalidArgument.

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_BLOB_H_
