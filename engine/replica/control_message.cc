// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/control_message.h"

#include <utility>

#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "engine/replica/format_error.h"
#include "engine/replica/handshake_fields.h"
#include "engine/replica/message_codec.h"
#include "engine/replica/section.h"
#include "engine/replica/session_fields.h"

namespace haven {
namespace {

constexpr char kWhat[] = "control message";
constexpr uint32_t kMagic = SectionMagic('C', 'M');

// Of the envelope; it stays when the format's version moves on, so that a Refuse is always
// understood.
constexpr uint16_t kEnvelopeVersion = 1;

constexpr size_t kTypes = std::variant_size_v<ControlMessage>;

// By alternative of ControlMessage.
constexpr absl::string_view kNames[] = {"Hello",     "Welcome",   "Refuse",          "LinkRequest",
                                        "LinkOffer", "LinkReady", "ExtentRequest",   "ExtentGrant",
                                        "Heartbeat", "Handover",  "HandoverRefused", "Promoted",
                                        "Drop"};
static_assert(std::size(kNames) == kTypes);

struct Envelope {
  size_t type_index = 0;  // Of ControlMessage.
  uint32_t body_bytes = 0;
};

absl::StatusOr<Envelope> DecodeEnvelope(std::span<const std::byte> in) {
  if (in.size() < kControlEnvelopeBytes) {
    return FieldError(kWhat, "length in bytes", in.size(), "at least", kControlEnvelopeBytes);
  }
  ByteReader reader(in);
  const uint32_t magic = reader.GetU32();
  const uint16_t version = reader.GetU16();
  const uint16_t type = reader.GetU16();
  const uint32_t length = reader.GetU32();
  if (magic != kMagic) return FieldError(kWhat, "magic", magic, "equal to", kMagic);
  if (version != kEnvelopeVersion) {
    return FieldError(kWhat, "envelope version", version, "equal to", kEnvelopeVersion);
  }
  if (type < 1 || type > kTypes) return FieldError(kWhat, "type", type, "1 ..", kTypes);
  if (length > kMaxControlMessageBytes - kControlEnvelopeBytes) {
    return FieldError(kWhat, "body length", length, "at most",
                      kMaxControlMessageBytes - kControlEnvelopeBytes);
  }
  return Envelope{.type_index = size_t{type} - 1, .body_bytes = length};
}

template <size_t kIndex>
absl::Status DecodeBody(std::span<const std::byte> body, ControlMessage* out) {
  MessageDecoder decoder(kNames[kIndex], body);
  Transfer(decoder, out->emplace<kIndex>());
  decoder.CheckEnd();
  return decoder.status();
}

template <size_t... kIndices>
absl::Status DecodeBodyOf(size_t type_index, std::span<const std::byte> body, ControlMessage* out,
                          std::index_sequence<kIndices...>) {
  using Decode = absl::Status (*)(std::span<const std::byte>, ControlMessage*);
  static constexpr Decode kDecoders[] = {&DecodeBody<kIndices>...};
  return kDecoders[type_index](body, out);
}

}  // namespace

absl::string_view ControlMessageName(const ControlMessage& message) {
  return kNames[message.index()];
}

absl::StatusOr<std::vector<std::byte>> EncodeControlMessage(const ControlMessage& message) {
  std::vector<std::byte> out(kControlEnvelopeBytes);
  MessageEncoder encoder(ControlMessageName(message), &out);
  std::visit([&encoder](const auto& body) { Transfer(encoder, body); }, message);
  HAVEN_RETURN_IF_ERROR(encoder.status());
  if (out.size() > kMaxControlMessageBytes) {
    return FieldError(ControlMessageName(message), "length in bytes", out.size(), "at most",
                      kMaxControlMessageBytes);
  }
  ByteWriter writer(out);
  writer.PutU32(kMagic);
  writer.PutU16(kEnvelopeVersion);
  writer.PutU16(static_cast<uint16_t>(message.index() + 1));
  writer.PutU32(static_cast<uint32_t>(out.size() - kControlEnvelopeBytes));
  return out;
}

absl::StatusOr<size_t> ControlMessageBytes(std::span<const std::byte> envelope) {
  HAVEN_ASSIGN_OR_RETURN(const Envelope decoded, DecodeEnvelope(envelope));
  return kControlEnvelopeBytes + decoded.body_bytes;
}

absl::StatusOr<ControlMessage> DecodeControlMessage(std::span<const std::byte> in) {
  HAVEN_ASSIGN_OR_RETURN(const Envelope envelope, DecodeEnvelope(in));
  const std::span<const std::byte> body = in.subspan(kControlEnvelopeBytes);
  if (envelope.body_bytes != body.size()) {
    return FieldError(kNames[envelope.type_index], "body length", envelope.body_bytes,
                      "the bytes that are there,", body.size());
  }
  ControlMessage message;
  HAVEN_RETURN_IF_ERROR(
      DecodeBodyOf(envelope.type_index, body, &message, std::make_index_sequence<kTypes>()));
  return message;
}

}  // namespace haven
