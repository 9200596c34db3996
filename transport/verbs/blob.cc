// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/blob.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x42425648;  // "HVBB"
constexpr uint16_t kVersion = 1;
constexpr uint16_t kRegionKind = 1;
constexpr uint16_t kLinkKind = 2;
constexpr uint16_t kJoinKind = 3;
constexpr size_t kHeaderBytes = 4 + 2 + 2;
constexpr size_t kRegionBytes = kHeaderBytes + 4 + 4 * kMaxRails + 4 + 8 + 8;
constexpr size_t kWayBytes = 2 + 2 + 2 + 2 + InetAddress::kRawBytes + kLinkTokenBytes;
constexpr size_t kMaxLinkBytes = kHeaderBytes + 4 + kMaxRails * kWayBytes;
constexpr uint64_t kPageMask = 4095;

void PutHeader(ByteWriter& writer, uint16_t kind) {
  writer.PutU32(kMagic);
  writer.PutU16(kind);
  writer.PutU16(kVersion);
}

absl::Status TakeHeader(ByteReader& reader, uint16_t kind, absl::string_view what) {
  const uint32_t magic = reader.GetU32();
  const uint16_t got_kind = reader.GetU16();
  const uint16_t version = reader.GetU16();
  if (reader.ok() && magic == kMagic && got_kind == kind && version == kVersion) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the peer's ", what, " is not sound: magic ", absl::Hex(magic), ", kind ",
                   got_kind, " (expected ", kind, "), version ", version, " (expected ", kVersion,
                   ")", reader.ok() ? "; run the same release on both sides" : ", too short"));
}

absl::Status Unsound(absl::string_view what, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("the peer's ", what, " is not sound: ", why));
}

std::string ToString(const ByteWriter& writer) {
  HAVEN_CHECK(writer.ok());
  const std::span<std::byte> bytes = writer.written();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::span<const std::byte> AsBytes(absl::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

absl::StatusOr<LinkWayBlob> TakeWay(ByteReader& reader) {
  const uint16_t rail = reader.GetU16();
  const uint16_t family = reader.GetU16();
  const uint16_t port = reader.GetU16();
  const uint16_t reserved = reader.GetU16();
  std::array<std::byte, InetAddress::kRawBytes> raw = {};
  std::ranges::copy(reader.GetBytes(raw.size()), raw.begin());
  LinkWayBlob way;
  std::ranges::copy(reader.GetBytes(kLinkTokenBytes), way.token.begin());
  if (!reader.ok()) return Unsound("link", "too short");
  if (rail >= kMaxRails || (family != 4 && family != 6) || port == 0 || reserved != 0) {
    return Unsound("link", absl::StrCat("rail ", rail, ", family ", family, ", port ", port,
                                        ", reserved ", reserved));
  }
  way.rail = rail;
  way.address = InetAddress::FromRaw(family == 4 ? AF_INET : AF_INET6, raw, port);
  const bool padded = family == 6 || std::all_of(raw.begin() + 4, raw.end(), [](std::byte byte) {
                        return byte == std::byte{0};
                      });
  if (!padded || !way.address.IsUnicast()) {
    return Unsound("link", absl::StrCat("address ", way.address.ToString(), " can not be reached"));
  }
  return way;
}

}  // namespace

std::string EncodeVerbsRegionBlob(const VerbsRegionBlob& blob) {
  std::array<std::byte, kRegionBytes> room;
  ByteWriter writer(room);
  PutHeader(writer, kRegionKind);
  writer.PutU32(blob.rails);
  for (const uint32_t rkey : blob.rkeys) writer.PutU32(rkey);
  writer.PutU32(0);
  writer.PutU64(blob.address);
  writer.PutU64(blob.bytes);
  return ToString(writer);
}

absl::StatusOr<VerbsRegionBlob> DecodeVerbsRegionBlob(absl::string_view text) {
  ByteReader reader(AsBytes(text));
  HAVEN_RETURN_IF_ERROR(TakeHeader(reader, kRegionKind, "region"));
  VerbsRegionBlob blob;
  blob.rails = reader.GetU32();
  for (uint32_t& rkey : blob.rkeys) rkey = reader.GetU32();
  const uint32_t reserved = reader.GetU32();
  blob.address = reader.GetU64();
  blob.bytes = reader.GetU64();
  if (!reader.done()) return Unsound("region", absl::StrCat("it has ", text.size(), " bytes"));
  if (blob.rails == 0 || blob.rails > kMaxRails || reserved != 0) {
    return Unsound("region", absl::StrCat(blob.rails, " rails, reserved ", reserved));
  }
  for (size_t rail = blob.rails; rail < kMaxRails; ++rail) {
    if (blob.rkeys[rail] != 0) return Unsound("region", "a key for a rail that is not there");
  }
  if (blob.bytes == 0 || blob.bytes > kMaxRegionBytes || (blob.bytes & kPageMask) != 0 ||
      (blob.address & kPageMask) != 0 || blob.address == 0 ||
      blob.address > UINT64_MAX - blob.bytes) {
    return Unsound("region",
                   absl::StrCat(blob.bytes, " bytes at ", absl::Hex(blob.address),
                                "; whole pages, at most ", kMaxRegionBytes, " bytes, are allowed"));
  }
  return blob;
}

std::string EncodeVerbsLinkBlob(const VerbsLinkBlob& blob) {
  std::array<std::byte, kMaxLinkBytes> room;
  ByteWriter writer(room);
  PutHeader(writer, kLinkKind);
  writer.PutU32(static_cast<uint32_t>(blob.ways.size()));
  for (const LinkWayBlob& way : blob.ways) {
    writer.PutU16(static_cast<uint16_t>(way.rail));
    writer.PutU16(way.address.family() == AF_INET ? 4 : 6);
    writer.PutU16(way.address.port());
    writer.PutU16(0);
    writer.PutBytes(way.address.raw());
    writer.PutBytes(way.token);
  }
  return ToString(writer);
}

absl::StatusOr<VerbsLinkBlob> DecodeVerbsLinkBlob(absl::string_view text) {
  ByteReader reader(AsBytes(text));
  HAVEN_RETURN_IF_ERROR(TakeHeader(reader, kLinkKind, "link"));
  VerbsLinkBlob blob;
  const uint32_t ways = reader.GetU32();
  if (!reader.ok() || ways == 0 || ways > kMaxRails) {
    return Unsound("link", absl::StrCat(ways, " ways; 1 to ", kMaxRails, " are allowed"));
  }
  for (uint32_t i = 0; i < ways; ++i) {
    HAVEN_ASSIGN_OR_RETURN(const LinkWayBlob way, TakeWay(reader));
    for (const LinkWayBlob& other : blob.ways) {
      if (other.rail == way.rail) return Unsound("link", absl::StrCat("rail ", way.rail, " twice"));
    }
    blob.ways.push_back(way);
  }
  if (!reader.done()) return Unsound("link", absl::StrCat("it has ", text.size(), " bytes"));
  return blob;
}

std::array<std::byte, kJoinBytes> EncodeJoin(const Join& join) {
  std::array<std::byte, kJoinBytes> room;
  ByteWriter writer(room);
  PutHeader(writer, kJoinKind);
  writer.PutU32(join.rail);
  writer.PutBytes(join.token);
  HAVEN_CHECK(writer.ok() && writer.remaining() == 0);
  return room;
}

absl::StatusOr<Join> DecodeJoin(std::span<const std::byte> data) {
  ByteReader reader(data);
  HAVEN_RETURN_IF_ERROR(TakeHeader(reader, kJoinKind, "connection request"));
  Join join;
  join.rail = reader.GetU32();
  std::ranges::copy(reader.GetBytes(kLinkTokenBytes), join.token.begin());
  if (!reader.ok()) return Unsound("connection request", "too short");
  if (join.rail >= kMaxRails)
    return Unsound("connection request", absl::StrCat("rail ", join.rail));
  return join;
}

bool SameToken(const LinkToken& a, const LinkToken& b) {
  std::byte difference = {};
  for (size_t i = 0; i < kLinkTokenBytes; ++i) difference |= a[i] ^ b[i];
  return difference == std::byte{0};
}

}  // namespace haven
