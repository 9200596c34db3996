// SPDX-License-Identifier: Apache-2.0
//
// A chunk: what one slot of the journal holds, a header of 64 bytes and a payload of frames
// (docs/replica-format.md). Written with ChunkWriter (chunk_writer.h), checked by EpochValidator
// (epoch_validator.h), walked with FrameCursor (frame.h).
#ifndef HAVEN_ENGINE_REPLICA_CHUNK_H_
#define HAVEN_ENGINE_REPLICA_CHUNK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/identity.h"

namespace haven {

inline constexpr size_t kChunkHeaderBytes = 64;

// True for the values of EpochKind.
inline constexpr bool IsKnownEpochKind(uint16_t kind) {
  return kind == static_cast<uint16_t>(EpochKind::kSync) ||
         kind == static_cast<uint16_t>(EpochKind::kCheckpoint);
}

// Names a chunk's place in the stream of one session.
struct ChunkIdentity {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch epoch = kNoEpoch;
  EpochKind kind =
      EpochKind::kSync;  // The same in all chunks of an epoch and in its commit record.
  uint32_t index = 0;    // From 0 within the epoch.

  friend bool operator==(const ChunkIdentity&, const ChunkIdentity&) = default;
};

// What authenticates a sealed chunk or commit record (chunk_seal.h).
inline constexpr size_t kSealTagBytes = 16;
using SealTag = std::array<std::byte, kSealTagBytes>;

struct ChunkHeader {
  ChunkIdentity identity{};
  uint32_t payload_bytes = 0;  // A multiple of 16, at least 16.
  uint32_t frame_count = 0;    // At least 1.
  uint32_t payload_crc = 0;    // CRC32C of the payload; 0 if it is sealed.
  bool sealed = false;
  SealTag tag{};  // Of a sealed chunk.

  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

// Writes the header to the front of a slot and returns the chunk's CRC, which is the header's own
// (it covers the payload's). A chunk of an epoch that is sent again under a new number needs only a
// new header: decode the old one, change the identity, encode. Does not allocate.
uint32_t EncodeChunkHeader(const ChunkHeader& header, std::span<std::byte, kChunkHeaderBytes> out);

// Reads the header at the front of `slot`, a whole slot. `*out` and `*chunk_crc` are set only if
// OK. Does not look at the payload, does not allocate if OK. NotFound: never written (all bytes
// zero). DataLoss: the header's CRC does not fit. InvalidArgument: the CRC fits and a field is
// wrong, or the payload would not fit the slot: names the field and its value.
absl::Status DecodeChunkHeader(std::span<const std::byte> slot, ChunkHeader* out,
                               uint32_t* chunk_crc);

// The payload of a chunk whose header was decoded from this slot.
inline std::span<const std::byte> ChunkPayload(std::span<const std::byte> slot,
                                               const ChunkHeader& header) {
  return slot.subspan(kChunkHeaderBytes, header.payload_bytes);
}

// What one chunk adds to its epoch.
struct ChunkTotals {
  uint32_t payload_bytes = 0;
  uint32_t frame_count = 0;
  uint64_t page_count = 0;  // Pages of raw and zero runs and coded pages.
  uint32_t chunk_crc = 0;   // Returned by EncodeChunkHeader().

  friend bool operator==(const ChunkTotals&, const ChunkTotals&) = default;
};

// Sums over the chunks of one epoch, in the order of their index. Part of the commit record.
struct EpochTotals {
  uint32_t chunk_count = 0;
  uint64_t payload_bytes = 0;
  uint64_t frame_count = 0;
  uint64_t page_count = 0;
  uint32_t chunks_crc = 0;  // CRC32C over the chunk CRCs, each as 4 bytes; 0 without a chunk.

  // Takes the next chunk in. Does not allocate.
  void Add(const ChunkTotals& chunk);

  friend bool operator==(const EpochTotals&, const EpochTotals&) = default;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CHUNK_H_
