// SPDX-License-Identifier: Apache-2.0
//
// XBZRLE, the delta encoding of QEMU's live migration (docs/devel/migration, "XBZRLE"): for
// benchmarks and tests, as a peer. The engine does not use it.
#ifndef HAVEN_ENGINE_CODEC_XBZRLE_H_
#define HAVEN_ENGINE_CODEC_XBZRLE_H_

#include <cstddef>
#include <optional>
#include <span>

#include "engine/replica/identity.h"

namespace haven {

// page = one or more (zero run, non-zero run, bytes): the number of unchanged bytes, the number of
// changed ones, both ULEB128 of at most two bytes, then the new bytes. Unchanged bytes at the end
// are left out. Returns the bytes written, 0 if nothing changed; nullopt if `out` is too small, in
// which case QEMU sends the page.
std::optional<size_t> XbzrleEncode(std::span<const std::byte, kPageBytes> before,
                                   std::span<const std::byte, kPageBytes> after,
                                   std::span<std::byte> out);

// Turns `page`, the version before, into the one after. False: malformed; `page` is then undefined.
bool XbzrleDecode(std::span<const std::byte> encoded, std::span<std::byte, kPageBytes> page);

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_XBZRLE_H_
