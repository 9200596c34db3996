// SPDX-License-Identifier: Apache-2.0
//
// Input: the state of a guest as an epoch carries it.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/check.h"
#include "xen/base/hvm_context.h"
#include "xen/base/records.h"
#include "xen/base/state.h"

namespace haven {
namespace {

void RunOne(std::span<const std::byte> input) {
  const absl::StatusOr<XenState> state = ParseXenState(input);
  if (!state.ok()) return;
  const absl::StatusOr<HvmContextShape> shape = CheckHvmContext(state->hvm_context, 4);
  HAVEN_CHECK(!shape.ok() || (shape->vcpus > 0 && shape->vcpus <= 4));
  std::vector<std::byte> again(input.size());
  XenRecordWriter writer(again);
  PutXenTscInfo(writer, state->tsc);
  writer.Put(XenRecordType::kHvmContext, state->hvm_context);
  PutHvmParams(writer, state->params());
  if (!state->device_model.empty()) writer.Put(XenRecordType::kDeviceModel, state->device_model);
  HAVEN_CHECK(writer.ok());
  HAVEN_CHECK(std::equal(again.begin(), again.end(), input.begin(), input.end()));
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
