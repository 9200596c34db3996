// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"
#include "engine/base/status_macros.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/format_error.h"

namespace haven {
namespace {

constexpr size_t kNonceBytes = 12;
// In the place of a chunk's index, for the commit record; no chunk gets there.
constexpr uint32_t kRecordIndex = UINT32_MAX;

using Nonce = std::array<std::byte, kNonceBytes>;
using BoundHeader = std::array<std::byte, kChunkHeaderBytes>;

unsigned char* Raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* Raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

Nonce MakeNonce(Epoch epoch, uint32_t index) {
  Nonce nonce;
  StoreLe64(nonce.data(), epoch);
  StoreLe32(nonce.data() + sizeof(uint64_t), index);
  return nonce;
}

// The header as it is before there is a tag.
BoundHeader BoundTo(ChunkHeader header) {
  header.sealed = true;
  header.tag = {};
  BoundHeader bound;
  EncodeChunkHeader(header, bound);
  return bound;
}

// The calls of the cipher have no way to fail for data that they can handle, but for the tag.
void Begin(EVP_CIPHER_CTX* context, const Nonce& nonce, std::span<const std::byte> bound) {
  int done = 0;
  HAVEN_CHECK_EQ(EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, Raw(nonce.data()), -1), 1);
  HAVEN_CHECK_EQ(
      EVP_CipherUpdate(context, nullptr, &done, Raw(bound.data()), static_cast<int>(bound.size())),
      1);
}

void Work(EVP_CIPHER_CTX* context, std::span<std::byte> bytes) {
  int done = 0;
  HAVEN_CHECK_EQ(EVP_CipherUpdate(context, Raw(bytes.data()), &done, Raw(bytes.data()),
                                  static_cast<int>(bytes.size())),
                 1);
  HAVEN_CHECK_EQ(done, static_cast<int>(bytes.size()));
}

SealTag TakeTag(EVP_CIPHER_CTX* context) {
  std::array<unsigned char, EVP_MAX_BLOCK_LENGTH> none;
  int done = 0;
  SealTag tag;
  HAVEN_CHECK_EQ(EVP_CipherFinal_ex(context, none.data(), &done), 1);
  HAVEN_CHECK_EQ(
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, static_cast<int>(tag.size()), tag.data()),
      1);
  return tag;
}

bool TagFits(EVP_CIPHER_CTX* context, SealTag tag) {
  std::array<unsigned char, EVP_MAX_BLOCK_LENGTH> none;
  int done = 0;
  HAVEN_CHECK_EQ(
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag.size()), tag.data()),
      1);
  return EVP_CipherFinal_ex(context, none.data(), &done) == 1;
}

}  // namespace

uint32_t ChunkSealer::Seal(std::span<std::byte> slot) {
  ChunkHeader header;
  uint32_t plain_crc = 0;
  HAVEN_CHECK_OK(DecodeChunkHeader(slot, &header, &plain_crc));
  HAVEN_CHECK(!header.sealed) << "epoch=" << header.identity.epoch;
  Begin(context_.get(), MakeNonce(header.identity.epoch, header.identity.index), BoundTo(header));
  Work(context_.get(), slot.subspan(kChunkHeaderBytes, header.payload_bytes));
  header.sealed = true;
  header.tag = TakeTag(context_.get());
  return EncodeChunkHeader(header, slot.first<kChunkHeaderBytes>());
}

SealTag ChunkSealer::SealRecord(Epoch epoch, std::span<const std::byte> record) {
  Begin(context_.get(), MakeNonce(epoch, kRecordIndex), record);
  return TakeTag(context_.get());
}

// Copied first: the cipher reads what it deciphers more than once.
absl::StatusOr<std::span<const std::byte>> ChunkOpener::Open(const ChunkHeader& header,
                                                             std::span<const std::byte> sealed) {
  if (!header.sealed) {
    return FieldError("chunk header", "flags", 0, "1: sealing was agreed on");
  }
  HAVEN_CHECK_LE(sealed.size(), room_.size());
  const std::span<std::byte> plain = std::span(room_).first(sealed.size());
  std::copy(sealed.begin(), sealed.end(), plain.begin());
  Begin(context_.get(), MakeNonce(header.identity.epoch, header.identity.index), BoundTo(header));
  Work(context_.get(), plain);
  if (!TagFits(context_.get(), header.tag) && !HAVEN_MUTANT(kIgnoreSeal)) {
    return TagError("chunk", header.identity.epoch);
  }
  return std::span<const std::byte>(plain);
}

absl::Status ChunkOpener::CheckRecord(Epoch epoch, std::span<const std::byte> record,
                                      const SealTag& tag) {
  Begin(context_.get(), MakeNonce(epoch, kRecordIndex), record);
  return TagFits(context_.get(), tag) ? absl::OkStatus() : TagError("commit record", epoch);
}

}  // namespace haven
