// SPDX-License-Identifier: Apache-2.0
//
// Everything an arbiter reads that others wrote. The first byte of the input chooses the decoder.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/membership/arbiter_conformance.h"
#include "engine/membership/arbiter_etcd_messages.h"
#include "engine/membership/arbiter_factory.h"
#include "engine/membership/arbiter_manual_request.h"
#include "engine/membership/arbiter_register_file.h"
#include "engine/membership/arbiter_rules.h"
#include "engine/membership/register.h"

namespace haven {
namespace {

constexpr absl::string_view kGroup = "web";

void Decode(uint8_t decoder, absl::string_view input) {
  switch (decoder) {
    case 'r': {
      const absl::StatusOr<Register> value = ParseRegister(input);
      if (value.ok()) HAVEN_CHECK(FormatRegister(*value) == input) << "a value with two texts";
      return;
    }
    case 'f': {
      const absl::StatusOr<RegisterFileContent> content = DecodeRegisterFile(kGroup, input);
      if (content.ok() && content->value) HAVEN_CHECK_OK(ValidateRegister(*content->value));
      return;
    }
    case 'm': {
      const absl::StatusOr<ManualRequest> asked = DecodeManualRequest(input);
      if (!asked.ok()) return;
      HAVEN_CHECK_OK(ValidateGroupName(asked->group));
      HAVEN_CHECK_OK(ValidateRequest(asked->request));
      return;
    }
    case 'e': {
      const absl::StatusOr<std::optional<Register>> read = DecodeEtcdRange(kGroup, input);
      if (read.ok() && *read) HAVEN_CHECK_OK(ValidateRegister(**read));
      const absl::StatusOr<EtcdChangeResult> change = DecodeEtcdChange(kGroup, input);
      if (change.ok() && change->current) HAVEN_CHECK_OK(ValidateRegister(*change->current));
      EtcdErrorText(input);
      return;
    }
    case 's':
      static_cast<void>(MakeArbiter(input));
      return;
    case 'c':
      static_cast<void>(ParseRaceResult(std::string(input)));
      return;
    default:
      return;
  }
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  haven::Decode(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
