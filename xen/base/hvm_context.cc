// SPDX-License-Identifier: Apache-2.0
#include "xen/base/hvm_context.h"

#include <algorithm>
#include <bitset>

#include "absl/strings/str_format.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

constexpr size_t kDescriptorBytes = 8;
constexpr size_t kHeaderBytes = 24;
constexpr uint16_t kEndCode = 0;
constexpr uint16_t kHeaderCode = 1;
constexpr uint16_t kCpuCode = 2;
constexpr uint32_t kMagic = 0x54381286;
constexpr uint32_t kVersion = 1;

struct Entry {
  uint16_t code = 0;
  uint16_t instance = 0;
  std::span<const std::byte> body;
};

absl::Status NextEntry(ByteReader& reader, Entry& entry) {
  const size_t at = reader.position();
  entry.code = reader.GetU16();
  entry.instance = reader.GetU16();
  const uint32_t bytes = reader.GetU32();
  const size_t left = reader.remaining();
  entry.body = reader.GetBytes(bytes);
  if (reader.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("HVM context: entry at byte %u (type %u/%u, length %u) must fit the %u bytes "
                      "left",
                      at, entry.code, entry.instance, bytes, left));
}

absl::Status ReadHeader(ByteReader& reader) {
  Entry header;
  HAVEN_RETURN_IF_ERROR(NextEntry(reader, header));
  if (header.code != kHeaderCode || header.instance != 0 || header.body.size() != kHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "HVM context: first entry is type %u/%u of %u bytes, must be a header: 1/0 of %u bytes",
        header.code, header.instance, header.body.size(), kHeaderBytes));
  }
  const uint32_t magic = LoadLe32(header.body.data());
  const uint32_t version = LoadLe32(header.body.data() + 4);
  if (magic == kMagic && version == kVersion) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "HVM context: magic %#x version %u, must be %#x and %u", magic, version, kMagic, kVersion));
}

}  // namespace

absl::StatusOr<HvmContextShape> CheckHvmContext(std::span<const std::byte> context,
                                                uint32_t max_vcpus) {
  ByteReader reader(context);
  HAVEN_RETURN_IF_ERROR(ReadHeader(reader));
  HAVEN_CHECK_LE(max_vcpus, kMaxHvmVcpus);
  std::bitset<kMaxHvmVcpus> online;
  HvmContextShape shape;
  for (Entry entry;;) {
    HAVEN_RETURN_IF_ERROR(NextEntry(reader, entry));
    if (entry.code == kEndCode) break;
    if (entry.code == kHeaderCode) {
      return absl::InvalidArgumentError("HVM context: it has a second header");
    }
    if (entry.code != kCpuCode) continue;
    if (entry.instance >= max_vcpus || online.test(entry.instance)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("HVM context: registers of vCPU %u, must be below %u and once",
                          entry.instance, max_vcpus));
    }
    online.set(entry.instance);
    ++shape.vcpus;
  }
  if (!reader.done()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "HVM context: %u bytes follow its end mark, must be none", reader.remaining()));
  }
  if (shape.vcpus == 0) {
    return absl::InvalidArgumentError("HVM context: no vCPU has registers in it");
  }
  return shape;
}

absl::Status EmptyHvmContext(std::span<const std::byte> context,
                             std::span<std::byte, kEmptyHvmContextBytes> empty) {
  ByteReader reader(context);
  HAVEN_RETURN_IF_ERROR(ReadHeader(reader));
  const auto end = std::copy_n(context.begin(), kDescriptorBytes + kHeaderBytes, empty.begin());
  std::fill(end, empty.end(), std::byte{0});
  return absl::OkStatus();
}

}  // namespace haven
