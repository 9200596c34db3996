// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/frame.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "transport/endpoint.h"

namespace haven {
namespace {

constexpr uint32_t kMessageMagic = 0x4d435648;   // "HVCM"
constexpr uint32_t kGreetingMagic = 0x47435648;  // "HVCG"
constexpr uint16_t kVersion = 1;

}  // namespace

Greeting EncodeGreeting(const Incarnation& own) {
  Greeting greeting;
  ByteWriter writer(greeting);
  writer.PutU32(kGreetingMagic);
  writer.PutU16(kVersion);
  writer.PutU16(0);
  writer.PutBytes(own);
  return greeting;
}

absl::StatusOr<Incarnation> DecodeGreeting(const Greeting& greeting) {
  ByteReader reader(greeting);
  const uint32_t magic = reader.GetU32();
  const uint16_t version = reader.GetU16();
  reader.Skip(2);
  Incarnation incarnation;
  std::ranges::copy(reader.GetBytes(kIncarnationBytes), incarnation.begin());
  if (magic != kGreetingMagic) {
    return absl::DataLossError(
        "the peer does not speak this protocol; is --insecure set on one side only?");
  }
  if (version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer speaks version ", version, " of the control channel, this process ",
                     kVersion, "; run the same release on both sides"));
  }
  return incarnation;
}

void EncodeFrame(std::span<const std::byte> message, std::vector<std::byte>& frame) {
  HAVEN_CHECK(!message.empty() && message.size() <= ControlChannel::kMaxMessageBytes)
      << "bytes=" << message.size();
  frame.resize(2 * sizeof(uint32_t) + message.size());
  ByteWriter writer(frame);
  writer.PutU32(kMessageMagic);
  writer.PutU32(static_cast<uint32_t>(message.size()));
  writer.PutBytes(message);
}

absl::Status MessageReader::Start() {
  ByteReader reader(header_);
  const uint32_t magic = reader.GetU32();
  const uint32_t bytes = reader.GetU32();
  if (magic != kMessageMagic) {
    return absl::DataLossError(absl::StrCat("a control message starts with ", absl::Hex(magic),
                                            " where ", absl::Hex(kMessageMagic), " belongs"));
  }
  if (bytes == 0 || bytes > ControlChannel::kMaxMessageBytes) {
    return absl::DataLossError(absl::StrCat("a control message claims ", bytes, " bytes; 1 to ",
                                            ControlChannel::kMaxMessageBytes, " are allowed"));
  }
  message_.resize(bytes);
  message_filled_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<std::byte>>> MessageReader::Read(ByteStream& stream) {
  if (message_.empty()) {
    HAVEN_ASSIGN_OR_RETURN(const bool header, Fill(stream, header_, header_filled_));
    if (!header) return std::nullopt;
    HAVEN_RETURN_IF_ERROR(Start());
  }
  HAVEN_ASSIGN_OR_RETURN(const bool whole, Fill(stream, message_, message_filled_));
  if (!whole) return std::nullopt;
  header_filled_ = 0;
  return std::exchange(message_, {});
}

}  // namespace haven
