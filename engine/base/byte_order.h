// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_BYTE_ORDER_H_
#define HAVEN_ENGINE_BASE_BYTE_ORDER_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace haven {

// Everything that leaves the process is little-endian and is stored and loaded by these functions,
// never by casting structs: docs/replica-format.md then holds on any machine and any alignment.

template <typename T>
concept ByteType = std::same_as<T, std::byte> || std::same_as<T, uint8_t>;

namespace byte_order_internal {

template <std::unsigned_integral T>
constexpr T ToLittleEndian(T value) {
  if constexpr (std::endian::native == std::endian::little || sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

template <std::unsigned_integral T, ByteType Byte>
void Store(Byte* to, T value) {
  const T little = ToLittleEndian(value);
  std::memcpy(to, &little, sizeof(little));
}

template <std::unsigned_integral T, ByteType Byte>
T Load(const Byte* from) {
  T little;
  std::memcpy(&little, from, sizeof(little));
  return ToLittleEndian(little);
}

}  // namespace byte_order_internal

// Store and load at any alignment. The caller owns the bounds; ByteWriter and ByteReader check
// them.
template <ByteType Byte>
void StoreU8(Byte* to, uint8_t value) {
  byte_order_internal::Store(to, value);
}
template <ByteType Byte>
void StoreLe16(Byte* to, uint16_t value) {
  byte_order_internal::Store(to, value);
}
template <ByteType Byte>
void StoreLe32(Byte* to, uint32_t value) {
  byte_order_internal::Store(to, value);
}
template <ByteType Byte>
void StoreLe64(Byte* to, uint64_t value) {
  byte_order_internal::Store(to, value);
}

template <ByteType Byte>
uint8_t LoadU8(const Byte* from) {
  return byte_order_internal::Load<uint8_t>(from);
}
template <ByteType Byte>
uint16_t LoadLe16(const Byte* from) {
  return byte_order_internal::Load<uint16_t>(from);
}
template <ByteType Byte>
uint32_t LoadLe32(const Byte* from) {
  return byte_order_internal::Load<uint32_t>(from);
}
template <ByteType Byte>
uint64_t LoadLe64(const Byte* from) {
  return byte_order_internal::Load<uint64_t>(from);
}

// Writes fields one after the other into memory that the caller owns and keeps alive. A field that
// does not fit is not written at all and sets a failure that stays: write everything, then look at
// ok() once. Not thread-safe.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> room) : room_(room) {}

  void PutU8(uint8_t value) { Put(value); }
  void PutU16(uint16_t value) { Put(value); }
  void PutU32(uint32_t value) { Put(value); }
  void PutU64(uint64_t value) { Put(value); }

  void PutBytes(std::span<const std::byte> bytes) {
    std::byte* to = Take(bytes.size());
    if (to != nullptr && !bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  }

  void PutZeros(size_t bytes) {
    std::byte* to = Take(bytes);
    if (to != nullptr && bytes > 0) std::memset(to, 0, bytes);
  }

  // True while every field so far has fitted.
  bool ok() const { return ok_; }
  // Bytes written so far.
  size_t position() const { return position_; }
  // Bytes still free; 0 after a failure.
  size_t remaining() const { return ok_ ? room_.size() - position_ : 0; }
  std::span<std::byte> written() const { return room_.first(position_); }

 private:
  template <std::unsigned_integral T>
  void Put(T value) {
    std::byte* to = Take(sizeof(T));
    if (to != nullptr) byte_order_internal::Store(to, value);
  }

  std::byte* Take(size_t bytes) {
    if (bytes > remaining() || !ok_) {
      ok_ = false;
      return nullptr;
    }
    std::byte* at = room_.data() + position_;
    position_ += bytes;
    return at;
  }

  std::span<std::byte> room_;
  size_t position_ = 0;
  bool ok_ = true;
};

// Reads fields one after the other out of memory that the caller owns and keeps alive. Reading past
// the end yields 0 or an empty span and sets a failure that stays: read everything, then look at
// ok() (or done()) before believing any of it. Not thread-safe.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint8_t GetU8() { return Get<uint8_t>(); }
  uint16_t GetU16() { return Get<uint16_t>(); }
  uint32_t GetU32() { return Get<uint32_t>(); }
  uint64_t GetU64() { return Get<uint64_t>(); }

  // A view of the next `bytes` bytes, not a copy.
  std::span<const std::byte> GetBytes(size_t bytes) {
    const std::byte* from = Take(bytes);
    if (from == nullptr) return {};
    return {from, bytes};
  }

  void Skip(size_t bytes) { Take(bytes); }

  // True while nothing has been read past the end.
  bool ok() const { return ok_; }
  // True when everything was read, and nothing past the end.
  bool done() const { return ok_ && position_ == bytes_.size(); }
  // Bytes read so far.
  size_t position() const { return position_; }
  // Bytes still unread; 0 after a failure.
  size_t remaining() const { return ok_ ? bytes_.size() - position_ : 0; }

 private:
  template <std::unsigned_integral T>
  T Get() {
    const std::byte* from = Take(sizeof(T));
    return from == nullptr ? T{0} : byte_order_internal::Load<T>(from);
  }

  const std::byte* Take(size_t bytes) {
    if (bytes > remaining() || !ok_) {
      ok_ = false;
      return nullptr;
    }
    const std::byte* at = bytes_.data() + position_;
    position_ += bytes;
    return at;
  }

  std::span<const std::byte> bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_BYTE_ORDER_H_
