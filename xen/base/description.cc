// SPDX-License-Identifier: Apache-2.0
#include "xen/base/description.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "engine/replica/control_message.h"
#include "xen/base/hvm_context.h"
#include "xen/base/records.h"
#include "xen/base/state.h"

namespace haven {
namespace {

static_assert(kMaxXenPages == kMaxDomainPages);
static_assert(kMaxXenVcpus == kMaxHvmVcpus);

constexpr size_t kFixedBytes = 16;  // After the prefix.
constexpr size_t kRunBytes = 16;
constexpr size_t kPrefixBytes = sizeof(kXenConfigPrefix) - 1;
// Twice the state with the empty context that is written.
constexpr size_t kMaxFirstStateBytes = size_t{4} << 10;

absl::Status Bad(absl::string_view field, uint64_t value, absl::string_view rule) {
  return absl::InvalidArgumentError(
      absl::StrCat("description of a Xen guest: ", field, " is ", value, ", must be ", rule));
}

absl::Status CheckSize(absl::string_view field, size_t bytes, size_t min, size_t max, size_t unit) {
  if (bytes >= min && bytes <= max && bytes % unit == 0) return absl::OkStatus();
  return Bad(absl::StrCat("length of ", field), bytes,
             absl::StrFormat("%u .. %u, a multiple of %u", min, max, unit));
}

absl::Status CheckFrames(const std::vector<XenFrameRun>& frames) {
  if (frames.empty() || frames.size() > kMaxXenFrameRuns) {
    return Bad("run count", frames.size(), absl::StrCat("1 .. ", kMaxXenFrameRuns));
  }
  uint64_t lowest = 0;
  uint64_t pages = 0;
  for (const XenFrameRun& run : frames) {
    if (run.first_gfn < lowest || run.first_gfn > kMaxXenGfn) {
      return Bad("first_gfn", run.first_gfn,
                 absl::StrFormat("%u .. %u: ascending, with a gap", lowest, kMaxXenGfn));
    }
    if (run.pages == 0 || run.pages > kMaxXenPages - pages) {
      return Bad("pages", run.pages, absl::StrCat("1 .. ", kMaxXenPages - pages));
    }
    pages += run.pages;
    lowest = run.first_gfn + run.pages + 1;
  }
  if (lowest - 2 <= kMaxXenGfn) return absl::OkStatus();
  return Bad("last gfn", lowest - 2, absl::StrCat("at most ", kMaxXenGfn));
}

absl::Status Check(const XenDescription& description) {
  if (description.max_vcpus == 0 || description.max_vcpus > kMaxXenVcpus) {
    return Bad("max_vcpus", description.max_vcpus, absl::StrCat("1 .. ", kMaxXenVcpus));
  }
  HAVEN_RETURN_IF_ERROR(CheckFrames(description.frames));
  HAVEN_RETURN_IF_ERROR(
      CheckSize("config_json", description.config_json.size(), 2, kMaxXenConfigJsonBytes, 1));
  HAVEN_RETURN_IF_ERROR(CheckSize("cpuid_policy", description.cpuid_policy.size(),
                                  kXenCpuidLeafBytes, kMaxXenPolicyBytes, kXenCpuidLeafBytes));
  HAVEN_RETURN_IF_ERROR(CheckSize("msr_policy", description.msr_policy.size(), 0,
                                  kMaxXenPolicyBytes, kXenMsrEntryBytes));
  const std::string& version = description.device_model;
  HAVEN_RETURN_IF_ERROR(
      CheckSize("device_model", version.size(), 0, kMaxDeviceModelVersionBytes, 1));
  const auto bad = std::find_if_not(version.begin(), version.end(), absl::ascii_isprint);
  if (bad == version.end()) return absl::OkStatus();
  return Bad("a character of device_model", static_cast<unsigned char>(*bad), "printable");
}

// `state` with an HVM context that holds nothing.
absl::StatusOr<std::vector<std::byte>> WithoutContext(std::span<const std::byte> bytes) {
  HAVEN_ASSIGN_OR_RETURN(const XenState state, ParseXenState(bytes));
  std::array<std::byte, kEmptyHvmContextBytes> context;
  HAVEN_RETURN_IF_ERROR(EmptyHvmContext(state.hvm_context, context));
  std::vector<std::byte> room(MaxXenStateBytes(context.size()));
  XenRecordWriter writer(room);
  PutXenTscInfo(writer, state.tsc);
  writer.Put(XenRecordType::kHvmContext, context);
  PutHvmParams(writer, state.params());
  room.resize(writer.written().size());
  return room;
}

std::span<const std::byte> AsBytes(absl::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

void PutCounted(ByteWriter& writer, std::span<const std::byte> bytes) {
  writer.PutU32(static_cast<uint32_t>(bytes.size()));
  writer.PutBytes(bytes);
}

absl::StatusOr<std::span<const std::byte>> GetCounted(ByteReader& reader, absl::string_view field,
                                                      size_t min, size_t max, size_t unit) {
  const uint32_t bytes = reader.GetU32();
  HAVEN_RETURN_IF_ERROR(CheckSize(field, bytes, min, max, unit));
  const std::span<const std::byte> body = reader.GetBytes(bytes);
  if (reader.ok()) return body;
  return Bad(absl::StrCat("length of ", field), bytes, "within the description");
}

absl::Status GetFrames(ByteReader& reader, uint32_t count, std::vector<XenFrameRun>& frames) {
  if (count > kMaxXenFrameRuns || reader.remaining() < kRunBytes * count) {
    return Bad("run count", count,
               absl::StrCat("1 .. ", kMaxXenFrameRuns, " and within the description"));
  }
  frames.resize(count);
  for (XenFrameRun& run : frames) {
    run.first_gfn = reader.GetU64();
    run.pages = reader.GetU64();
  }
  return absl::OkStatus();
}

std::string TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::byte> CopyOf(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace

bool IsXenDescription(absl::string_view config) {
  return absl::StartsWith(config, kXenConfigPrefix);
}

absl::StatusOr<std::string> EncodeXenDescription(const XenDescription& description) {
  HAVEN_RETURN_IF_ERROR(Check(description));
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::byte> state,
                         WithoutContext(description.first_state));
  const std::span<const std::byte> json = AsBytes(description.config_json);
  const size_t bytes = kPrefixBytes + kFixedBytes + kRunBytes * description.frames.size() +
                       size_t{4} * 4 + json.size() + description.cpuid_policy.size() +
                       description.msr_policy.size() + state.size() +
                       (description.device_model.empty() ? 0 : 4 + description.device_model.size());
  if (bytes > kMaxConfigBytes) {
    return Bad("size", bytes, absl::StrCat("at most ", kMaxConfigBytes, " bytes"));
  }
  std::string out(bytes, '\0');
  ByteWriter writer(std::as_writable_bytes(std::span(out)));
  writer.PutBytes(AsBytes(kXenConfigPrefix));
  writer.PutU32(description.device_model.empty() ? kXenDescriptionVersion
                                                 : kXenDescriptionVersionDeviceModel);
  writer.PutU32(description.max_vcpus);
  writer.PutU32(static_cast<uint32_t>(description.frames.size()));
  writer.PutU32(0);
  for (const XenFrameRun& run : description.frames) {
    writer.PutU64(run.first_gfn);
    writer.PutU64(run.pages);
  }
  PutCounted(writer, json);
  PutCounted(writer, description.cpuid_policy);
  PutCounted(writer, description.msr_policy);
  PutCounted(writer, state);
  if (!description.device_model.empty()) PutCounted(writer, AsBytes(description.device_model));
  return out;
}

absl::StatusOr<XenDescription> DecodeXenDescription(absl::string_view config) {
  if (!IsXenDescription(config) || config.size() > kMaxConfigBytes) {
    return Bad("size", config.size(),
               absl::StrCat("at most ", kMaxConfigBytes, " and begin with ", kXenConfigPrefix));
  }
  ByteReader reader(AsBytes(config).subspan(kPrefixBytes));
  const uint32_t version = reader.GetU32();
  if (version != kXenDescriptionVersion && version != kXenDescriptionVersionDeviceModel) {
    return Bad("version", version,
               absl::StrCat(kXenDescriptionVersion, " or ", kXenDescriptionVersionDeviceModel,
                            ": use the same haven-engine on both hosts"));
  }
  XenDescription description;
  description.max_vcpus = reader.GetU32();
  const uint32_t run_count = reader.GetU32();
  const uint32_t reserved = reader.GetU32();
  if (!reader.ok() || reserved != 0) return Bad("reserved field", reserved, "there, and 0");
  HAVEN_RETURN_IF_ERROR(GetFrames(reader, run_count, description.frames));
  HAVEN_ASSIGN_OR_RETURN(const std::span<const std::byte> json,
                         GetCounted(reader, "config_json", 2, kMaxXenConfigJsonBytes, 1));
  HAVEN_ASSIGN_OR_RETURN(const std::span<const std::byte> cpuid,
                         GetCounted(reader, "cpuid_policy", kXenCpuidLeafBytes, kMaxXenPolicyBytes,
                                    kXenCpuidLeafBytes));
  HAVEN_ASSIGN_OR_RETURN(
      const std::span<const std::byte> msr,
      GetCounted(reader, "msr_policy", 0, kMaxXenPolicyBytes, kXenMsrEntryBytes));
  HAVEN_ASSIGN_OR_RETURN(const std::span<const std::byte> state,
                         GetCounted(reader, "first_state", 8, kMaxFirstStateBytes, 8));
  if (version == kXenDescriptionVersionDeviceModel) {
    HAVEN_ASSIGN_OR_RETURN(const std::span<const std::byte> model,
                           GetCounted(reader, "device_model", 1, kMaxDeviceModelVersionBytes, 1));
    description.device_model = TextOf(model);
  }
  if (!reader.done()) return Bad("bytes that follow", reader.remaining(), "0");
  description.config_json = TextOf(json);
  description.cpuid_policy = CopyOf(cpuid);
  description.msr_policy = CopyOf(msr);
  HAVEN_RETURN_IF_ERROR(Check(description));
  HAVEN_ASSIGN_OR_RETURN(description.first_state, WithoutContext(state));
  return description;
}

}  // namespace haven
