// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/state.h"

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"

namespace haven {
namespace {

constexpr uint32_t kMagic = 0x47535648;  // "HVSG"
constexpr uint16_t kVersion = 1;

// Counters beyond this can not have been reached: a century at 10^9 a second is below it.
constexpr uint64_t kMaxCounter = uint64_t{1} << 62;

absl::Status Bad(absl::string_view field, uint64_t value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("state of a synthetic guest: ", field, " is ", value, ", expected ", expected));
}

}  // namespace

absl::StatusOr<size_t> EncodeSyntheticState(const SyntheticSpec& spec, const SyntheticState& state,
                                            std::span<std::byte> out) {
  const size_t bytes = SyntheticStateBytes(spec.vcpus);
  if (out.size() < bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("state of synthetic guest ", spec.name,
                                                     ": it takes ", bytes, " bytes, room is for ",
                                                     out.size()));
  }
  ByteWriter writer(out.first(bytes));
  writer.PutU32(kMagic);
  writer.PutU16(kVersion);
  writer.PutU16(static_cast<uint16_t>(spec.vcpus));
  writer.PutU64(SyntheticContentKey(spec));
  writer.PutU32(state.generation);
  writer.PutU32(0);
  writer.PutU64(state.stops);
  writer.PutU64(state.next_sequence);
  for (uint32_t vcpu = 0; vcpu < spec.vcpus; ++vcpu) {
    writer.PutU64(state.vcpus[vcpu].writes);
    writer.PutU64(state.vcpus[vcpu].checksum);
  }
  writer.PutU32(Crc32c(writer.written()));
  writer.PutU32(0);
  HAVEN_CHECK(writer.ok());
  HAVEN_CHECK_EQ(writer.position(), bytes);
  return bytes;
}

absl::StatusOr<SyntheticState> DecodeSyntheticState(const SyntheticSpec& spec,
                                                    std::span<const std::byte> record) {
  const size_t bytes = SyntheticStateBytes(spec.vcpus);
  if (record.size() != bytes) return Bad("size", record.size(), absl::StrCat(bytes, " bytes"));
  ByteReader reader(record);
  const uint32_t magic = reader.GetU32();
  if (magic != kMagic) return Bad("magic", magic, absl::StrCat(kMagic));
  const uint16_t version = reader.GetU16();
  if (version != kVersion) return Bad("version", version, absl::StrCat(kVersion));
  const uint16_t vcpus = reader.GetU16();
  if (vcpus != spec.vcpus) return Bad("number of vCPUs", vcpus, absl::StrCat(spec.vcpus));
  const uint64_t key = reader.GetU64();
  if (key != SyntheticContentKey(spec)) {
    return Bad("content key", key,
               absl::StrCat(SyntheticContentKey(spec), " (guest ", spec.name,
                            "): it is the state of another guest"));
  }
  SyntheticState state;
  state.generation = reader.GetU32();
  if (state.generation == 0) return Bad("generation", 0, "1 or more");
  const uint32_t reserved = reader.GetU32();
  if (reserved != 0) return Bad("reserved field at 20", reserved, "0");
  state.stops = reader.GetU64();
  state.next_sequence = reader.GetU64();
  if (state.next_sequence == 0 || state.next_sequence > kMaxCounter) {
    return Bad("next sequence", state.next_sequence, absl::StrCat("1 to ", kMaxCounter));
  }
  for (uint32_t vcpu = 0; vcpu < spec.vcpus; ++vcpu) {
    state.vcpus[vcpu].writes = reader.GetU64();
    state.vcpus[vcpu].checksum = reader.GetU64();
    if (state.vcpus[vcpu].writes > kMaxCounter) {
      return Bad(absl::StrCat("writes of vCPU ", vcpu), state.vcpus[vcpu].writes,
                 absl::StrCat("0 to ", kMaxCounter));
    }
  }
  const uint32_t computed = Crc32c(record.first(reader.position()));
  const uint32_t crc = reader.GetU32();
  if (crc != computed) return Bad("CRC", crc, absl::StrCat(computed));
  const uint32_t padding = reader.GetU32();
  if (padding != 0) return Bad("padding", padding, "0");
  HAVEN_CHECK(reader.done());
  return state;
}

}  // namespace haven
