// SPDX-License-Identifier: Apache-2.0
//
// Sealing: payloads of chunks encrypted and authenticated, headers and commit records authenticated
// (docs/replica-format.md), with AES-256-GCM.
//
// A session has a key of its own, which both sides have from their control channel. No nonce is
// used twice under it: it is made of the epoch's number, which is never used twice in a session,
// and of the chunk's index.
#ifndef HAVEN_ENGINE_REPLICA_CHUNK_SEAL_H_
#define HAVEN_ENGINE_REPLICA_CHUNK_SEAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/replica/chunk.h"
#include "engine/replica/identity.h"

struct evp_cipher_ctx_st;

namespace haven {

inline constexpr size_t kSealKeyBytes = 32;
using SealKey = std::array<std::byte, kSealKeyBytes>;

struct CipherContextDeleter {
  void operator()(evp_cipher_ctx_st* context) const;
};
using CipherContext = std::unique_ptr<evp_cipher_ctx_st, CipherContextDeleter>;

// The primary's side. One thread at a time; several objects with one key may be used at once, for
// different chunks. Does not allocate after Create().
class ChunkSealer {
 public:
  // Unavailable: this OpenSSL does not have the cipher, or no memory.
  static absl::StatusOr<std::unique_ptr<ChunkSealer>> Create(const SealKey& key);

  // Encrypts the payload of a chunk that ChunkWriter or EncodeChunkHeader() has finished, in place,
  // writes the new header and returns the chunk's new CRC. `slot` begins with the chunk, which was
  // not sealed before (checked): each chunk of an epoch once.
  uint32_t Seal(std::span<std::byte> slot);

  // The tag of an encoded commit record; once for each epoch.
  SealTag SealRecord(Epoch epoch, std::span<const std::byte> record);

 private:
  explicit ChunkSealer(CipherContext context) : context_(std::move(context)) {}

  CipherContext context_;
};

// The backup's side. One thread at a time. Does not allocate while all is well.
class ChunkOpener {
 public:
  // For chunks of slots of `slot_bytes`. Errors of ChunkSealer::Create.
  static absl::StatusOr<std::unique_ptr<ChunkOpener>> Create(const SealKey& key,
                                                             uint32_t slot_bytes);

  // The plain payload of a chunk of which `header` was read: a private copy that is valid until the
  // next call. `sealed` may be changed by others meanwhile: what is returned is what the peer has
  // sealed. DataLoss: it is not what was sealed under this key. InvalidArgument: the chunk is not
  // sealed.
  absl::StatusOr<std::span<const std::byte>> Open(const ChunkHeader& header,
                                                  std::span<const std::byte> sealed);

  // Of a private copy of a commit record. DataLoss, as above.
  absl::Status CheckRecord(Epoch epoch, std::span<const std::byte> record, const SealTag& tag);

 private:
  static absl::Status TagError(absl::string_view what, Epoch epoch);

  ChunkOpener(CipherContext context, uint32_t slot_bytes)
      : context_(std::move(context)), room_(slot_bytes) {}

  CipherContext context_;
  std::vector<std::byte> room_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CHUNK_SEAL_H_
