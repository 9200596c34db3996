// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/blob.h"

#include <algorithm>
#include <array>
#include <span>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "transport/shm/region_table.h"
#include "transport/shm/shared_memory.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x424d4853;  // "SHMB"
constexpr uint16_t kVersion = 1;
constexpr uint16_t kRegionKind = 1;
constexpr uint16_t kLinkKind = 2;
constexpr size_t kHeaderBytes = 4 + 2 + 2 + kTokenBytes;
constexpr size_t kRegionBytes = kHeaderBytes + 4 + 8;
constexpr uint64_t kPageMask = 4095;

void PutHeader(ByteWriter& writer, uint16_t kind, const Token& token) {
  writer.PutU32(kMagic);
  writer.PutU16(kind);
  writer.PutU16(kVersion);
  writer.PutBytes(token);
}

std::string ToString(const ByteWriter& writer) {
  const std::span<std::byte> bytes = writer.written();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::span<const std::byte> AsBytes(absl::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

absl::StatusOr<Token> GetHeader(ByteReader& reader, uint16_t kind) {
  const uint32_t magic = reader.GetU32();
  const uint16_t got_kind = reader.GetU16();
  const uint16_t version = reader.GetU16();
  Token token{};
  std::ranges::copy(reader.GetBytes(kTokenBytes), token.begin());
  if (!reader.ok() || magic != kMagic || got_kind != kind || version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peer's shm blob is not sound: magic ", absl::Hex(magic), ", kind ",
                     got_kind, " (expected ", kind, "), version ", version, " (expected ", kVersion,
                     ")", reader.ok() ? "" : ", too short"));
  }
  return token;
}

absl::Status CheckDone(const ByteReader& reader) {
  if (reader.done()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the peer's shm blob has a wrong length: ", reader.remaining(), " bytes are left over"));
}

}  // namespace

std::string EncodeRegionBlob(const RegionBlob& blob) {
  std::array<std::byte, kRegionBytes> room;
  ByteWriter writer(room);
  PutHeader(writer, kRegionKind, blob.token);
  writer.PutU32(blob.region);
  writer.PutU64(blob.bytes);
  return ToString(writer);
}

absl::StatusOr<RegionBlob> DecodeRegionBlob(absl::string_view text) {
  ByteReader reader(AsBytes(text));
  RegionBlob blob;
  HAVEN_ASSIGN_OR_RETURN(blob.token, GetHeader(reader, kRegionKind));
  blob.region = reader.GetU32();
  blob.bytes = reader.GetU64();
  HAVEN_RETURN_IF_ERROR(CheckDone(reader));
  if (blob.region >= kMaxRegions || blob.bytes == 0 || blob.bytes > kMaxSharedBytes ||
      (blob.bytes & kPageMask) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the peer's shm region is not sound: id ",
                                                   blob.region, " (below ", kMaxRegions, "), ",
                                                   blob.bytes, " bytes (whole pages)"));
  }
  return blob;
}

std::string EncodeLinkBlob(const LinkBlob& blob) {
  std::array<std::byte, kHeaderBytes> room;
  ByteWriter writer(room);
  PutHeader(writer, kLinkKind, blob.token);
  return ToString(writer);
}

absl::StatusOr<LinkBlob> DecodeLinkBlob(absl::string_view text) {
  ByteReader reader(AsBytes(text));
  LinkBlob blob;
  HAVEN_ASSIGN_OR_RETURN(blob.token, GetHeader(reader, kLinkKind));
  HAVEN_RETURN_IF_ERROR(CheckDone(reader));
  return blob;
}

}  // namespace haven
