// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/chunk_seal.h"

#include <openssl/evp.h>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"

namespace haven {
namespace {

const unsigned char* Raw(const SealKey& key) {
  return reinterpret_cast<const unsigned char*>(key.data());
}

// With the key, and the cipher of that direction.
absl::StatusOr<CipherContext> MakeContext(const SealKey& key, bool encrypt) {
  CipherContext context(EVP_CIPHER_CTX_new());
  if (context != nullptr && EVP_CipherInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, Raw(key),
                                              nullptr, encrypt ? 1 : 0) == 1) {
    return context;
  }
  return absl::UnavailableError("AES-256-GCM is not to be had from this OpenSSL, or no memory");
}

}  // namespace

void CipherContextDeleter::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);  // Cleans the key.
}

absl::StatusOr<std::unique_ptr<ChunkSealer>> ChunkSealer::Create(const SealKey& key) {
  absl::StatusOr<CipherContext> context = MakeContext(key, /*encrypt=*/true);
  if (!context.ok()) return context.status();
  return absl::WrapUnique(new ChunkSealer(*std::move(context)));
}

absl::StatusOr<std::unique_ptr<ChunkOpener>> ChunkOpener::Create(const SealKey& key,
                                                                 uint32_t slot_bytes) {
  absl::StatusOr<CipherContext> context = MakeContext(key, /*encrypt=*/false);
  if (!context.ok()) return context.status();
  return absl::WrapUnique(new ChunkOpener(*std::move(context), slot_bytes));
}

absl::Status ChunkOpener::TagError(absl::string_view what, Epoch epoch) {
  return absl::DataLossError(absl::StrCat(
      what, " of epoch ", epoch,
      ": the seal does not fit: it was changed on its way, or sealed with another key"));
}

}  // namespace haven
