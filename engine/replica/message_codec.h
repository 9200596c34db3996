// SPDX-License-Identifier: Apache-2.0
//
// Fields of control messages, to and from bytes. Each message describes its fields once, in a
// Transfer() function over either of the two classes here (handshake_fields.h, session_fields.h);
// so both directions have the same fields in the same order and check the same rules.
//
//   template <typename Codec>
//   void Transfer(Codec& codec, MessageOf<Codec, Handover>& message) {
//     codec.Number("session", message.session, 1, UINT64_MAX);
//     codec.Number("epoch", message.epoch, 1, UINT64_MAX);
//   }
//
// The first rule that is broken ends the transfer: what follows does nothing, status() has the
// error.
#ifndef HAVEN_ENGINE_REPLICA_MESSAGE_CODEC_H_
#define HAVEN_ENGINE_REPLICA_MESSAGE_CODEC_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"

namespace haven {

// Which bytes a string may have.
enum class StringRule : uint8_t {
  kNodeId,     // [A-Za-z0-9._-]
  kPrintable,  // 0x20 .. 0x7e
  kOpaque,     // Any.
};

// The place in a message, for errors: "Hello: domains[2].page_count is ...". Names are literals.
class FieldPath {
 public:
  explicit FieldPath(absl::string_view message) : message_(message) {}

  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

  // Fails with "<field> is <value>, must be <rule>" unless `holds`.
  void Require(bool holds, absl::string_view field, uint64_t value, absl::string_view rule);

  // Fails with `status` unless it is OK.
  void RequireOk(absl::string_view field, const absl::Status& status);

  void CheckRange(absl::string_view field, uint64_t value, uint64_t min, uint64_t max);
  void CheckString(absl::string_view field, StringRule rule, absl::string_view value);
  void CheckLength(absl::string_view field, uint64_t length, uint64_t min, uint64_t max);

  // Fails because a field of `bytes` bytes does not fit the `left` bytes that are left.
  void FailShort(absl::string_view field, uint64_t bytes, uint64_t left);

  void Enter(absl::string_view list);
  void SetIndex(size_t index) { levels_[depth_ - 1].index = index; }
  void Leave() { --depth_; }

 private:
  // Lists in messages nest no deeper: domains, and their RAM runs.
  static constexpr size_t kMaxDepth = 2;
  struct Level {
    absl::string_view list;
    size_t index = 0;
  };

  std::string Name(absl::string_view field) const;

  absl::string_view message_;
  std::array<Level, kMaxDepth> levels_;
  size_t depth_ = 0;
  absl::Status status_;
};

// Appends fields to a body. Values are checked first: nothing leaves that a decoder would refuse.
class MessageEncoder : public FieldPath {
 public:
  static constexpr bool kDecodes = false;

  // Appends to `*out`, which outlives the encoder.
  MessageEncoder(absl::string_view message, std::vector<std::byte>* out)
      : FieldPath(message), out_(out) {}

  template <std::unsigned_integral T>
  void Number(absl::string_view field, T value, std::type_identity_t<T> min,
              std::type_identity_t<T> max) {
    CheckRange(field, value, min, max);
    if (ok()) Put(value);
  }

  template <typename E>
  requires std::is_enum_v<E>
  void Enum(absl::string_view field, E value, E min, E max) {
    using T = std::underlying_type_t<E>;
    Number(field, static_cast<T>(value), static_cast<T>(min), static_cast<T>(max));
  }

  void Flag(absl::string_view field, bool value) { Number(field, uint8_t{value}, 0, 1); }

  // A string of min .. max bytes behind its length of 4 bytes.
  void String(absl::string_view field, const std::string& value, size_t min, size_t max,
              StringRule rule);

  // A text for a human reader: cut to `max` bytes, what is not printable becomes '?'.
  void Text(absl::string_view field, const std::string& value, size_t max);

  void Bytes(absl::string_view field, const std::vector<std::byte>& value, size_t max);

  // A list of min .. max elements behind their number of 4 bytes; `each` transfers one.
  template <typename T, typename Each>
  void List(absl::string_view field, const std::vector<T>& list, size_t min, size_t max,
            Each each) {
    CheckLength(field, list.size(), min, max);
    if (ok()) Put(static_cast<uint32_t>(list.size()));
    Enter(field);
    for (size_t i = 0; i < list.size() && ok(); ++i) {
      SetIndex(i);
      each(list[i]);
    }
    Leave();
  }

 private:
  template <std::unsigned_integral T>
  void Put(T value) {
    const size_t at = out_->size();
    out_->resize(at + sizeof(T));
    ByteWriter writer(std::span<std::byte>(*out_).subspan(at));
    if constexpr (sizeof(T) == 1) writer.PutU8(value);
    if constexpr (sizeof(T) == 2) writer.PutU16(value);
    if constexpr (sizeof(T) == 4) writer.PutU32(value);
    if constexpr (sizeof(T) == 8) writer.PutU64(value);
  }
  void PutLengthAnd(std::span<const std::byte> bytes);

  std::vector<std::byte>* out_;
};

// Takes fields out of a body. Nothing is allocated on the word of a length before the bytes were
// seen to be there, or the length to be within its limit.
class MessageDecoder : public FieldPath {
 public:
  static constexpr bool kDecodes = true;

  // `body` outlives the decoder.
  MessageDecoder(absl::string_view message, std::span<const std::byte> body)
      : FieldPath(message), reader_(body) {}

  template <std::unsigned_integral T>
  void Number(absl::string_view field, T& value, std::type_identity_t<T> min,
              std::type_identity_t<T> max) {
    if (!Get(field, value)) return;
    CheckRange(field, value, min, max);
  }

  // The values of `E` from `min` to `max` are all known.
  template <typename E>
  requires std::is_enum_v<E>
  void Enum(absl::string_view field, E& value, E min, E max) {
    using T = std::underlying_type_t<E>;
    T number = 0;
    Number(field, number, static_cast<T>(min), static_cast<T>(max));
    if (ok()) value = static_cast<E>(number);
  }

  void Flag(absl::string_view field, bool& value) {
    uint8_t number = 0;
    Number(field, number, 0, 1);
    value = number == 1;
  }

  void String(absl::string_view field, std::string& value, size_t min, size_t max, StringRule rule);

  void Text(absl::string_view field, std::string& value, size_t max) {
    String(field, value, 0, max, StringRule::kPrintable);
  }

  void Bytes(absl::string_view field, std::vector<std::byte>& value, size_t max);

  template <typename T, typename Each>
  void List(absl::string_view field, std::vector<T>& list, size_t min, size_t max, Each each) {
    uint32_t count = 0;
    if (!Get(field, count)) return;
    CheckLength(field, count, min, max);
    Enter(field);
    for (size_t i = 0; i < count && ok(); ++i) {
      SetIndex(i);
      each(list.emplace_back());
    }
    Leave();
  }

  // Fails if bytes are left over.
  void CheckEnd();

 private:
  template <std::unsigned_integral T>
  bool Get(absl::string_view field, T& value) {
    if (!Available(field, sizeof(T))) return false;
    if constexpr (sizeof(T) == 1) value = reader_.GetU8();
    if constexpr (sizeof(T) == 2) value = reader_.GetU16();
    if constexpr (sizeof(T) == 4) value = reader_.GetU32();
    if constexpr (sizeof(T) == 8) value = reader_.GetU64();
    return true;
  }
  // False, with the error set, if fewer than `bytes` bytes are left or an error stands already.
  bool Available(absl::string_view field, size_t bytes);
  std::span<const std::byte> GetCounted(absl::string_view field, size_t min, size_t max);

  ByteReader reader_;
};

// The message as this codec takes it: constant for the encoder.
template <typename Codec, typename Message>
using MessageOf = std::conditional_t<Codec::kDecodes, Message, const Message>;

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_MESSAGE_CODEC_H_
