// SPDX-License-Identifier: Apache-2.0
#include "xen/base/state.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

absl::Status ParseTscInfo(std::span<const std::byte> body, XenTscInfo& tsc) {
  ByteReader reader(body);
  tsc.mode = reader.GetU32();
  tsc.khz = reader.GetU32();
  tsc.elapsed_ns = reader.GetU64();
  tsc.incarnation = reader.GetU32();
  const uint32_t reserved = reader.GetU32();
  if (reader.done() && reserved == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "X86_TSC_INFO: %u bytes, reserved field %#x: must be %u bytes and the field 0", body.size(),
      reserved, kXenTscInfoBytes));
}

absl::Status ParseHvmParams(std::span<const std::byte> body, XenState& state) {
  ByteReader reader(body);
  const uint32_t count = reader.GetU32();
  const uint32_t reserved = reader.GetU32();
  if (!reader.ok() || reserved != 0 || count > kMaxHvmParams ||
      reader.remaining() != size_t{16} * count) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "HVM_PARAMS: %u bytes with count %u and reserved field %#x: must be 8 bytes "
        "and 16 for each of at most %u, and the field 0",
        body.size(), count, reserved, kMaxHvmParams));
  }
  state.param_count = 0;
  for (uint32_t i = 0; i < count; ++i) {
    HvmParam& param = state.param_room[i];
    param.index = reader.GetU64();
    param.value = reader.GetU64();
    for (const HvmParam& earlier : state.params()) {
      if (earlier.index != param.index) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("HVM_PARAMS: index %u is there twice", param.index));
    }
    state.param_count = i + 1;
  }
  return absl::OkStatus();
}

}  // namespace

void PutXenTscInfo(XenRecordWriter& writer, const XenTscInfo& tsc) {
  std::array<std::byte, kXenTscInfoBytes> body;
  ByteWriter fields(body);
  fields.PutU32(tsc.mode);
  fields.PutU32(tsc.khz);
  fields.PutU64(tsc.elapsed_ns);
  fields.PutU32(tsc.incarnation);
  fields.PutU32(0);
  writer.Put(XenRecordType::kX86TscInfo, body);
}

void PutHvmParams(XenRecordWriter& writer, std::span<const HvmParam> params) {
  HAVEN_CHECK_LE(params.size(), kMaxHvmParams);
  std::array<std::byte, 8 + 16 * kMaxHvmParams> body;
  ByteWriter fields(body);
  fields.PutU32(static_cast<uint32_t>(params.size()));
  fields.PutU32(0);
  for (const HvmParam& param : params) {
    fields.PutU64(param.index);
    fields.PutU64(param.value);
  }
  writer.Put(XenRecordType::kHvmParams, fields.written());
}

uint64_t XenState::Param(uint64_t index) const {
  for (const HvmParam& param : params()) {
    if (param.index == index) return param.value;
  }
  return 0;
}

absl::StatusOr<XenState> ParseXenState(std::span<const std::byte> bytes) {
  XenRecordReader reader(bytes);
  XenState state;
  std::span<const std::byte> body;
  HAVEN_RETURN_IF_ERROR(reader.Expect(XenRecordType::kX86TscInfo, body));
  HAVEN_RETURN_IF_ERROR(ParseTscInfo(body, state.tsc));
  HAVEN_RETURN_IF_ERROR(reader.Expect(XenRecordType::kHvmContext, state.hvm_context));
  HAVEN_RETURN_IF_ERROR(reader.Expect(XenRecordType::kHvmParams, body));
  HAVEN_RETURN_IF_ERROR(ParseHvmParams(body, state));
  if (reader.done()) return state;
  HAVEN_RETURN_IF_ERROR(reader.Expect(XenRecordType::kDeviceModel, state.device_model));
  HAVEN_RETURN_IF_ERROR(CheckDeviceModelState(state.device_model));
  if (reader.done()) return state;
  return absl::InvalidArgumentError("the state has bytes after its last record, must have none");
}

absl::Status CheckDeviceModelState(std::span<const std::byte> state) {
  // All but the end mark of one without devices.
  constexpr size_t kHeaderBytes = kEmptyDeviceModelState.size() - 1;
  if (state.size() > kHeaderBytes && state.size() <= kMaxDeviceModelBytes &&
      std::equal(state.begin(), state.begin() + kHeaderBytes, kEmptyDeviceModelState.begin()) &&
      state.back() == std::byte{0}) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "the device model's state, %u bytes, is none: it must be %u to %u bytes, begin with QEVM and "
      "version 3, and end with the end mark",
      state.size(), kHeaderBytes + 1, kMaxDeviceModelBytes));
}

}  // namespace haven
