// SPDX-License-Identifier: Apache-2.0
//
// Records of Xen's migration stream, format 3 (docs/specs/libxc-migration-stream of Xen 4.17): type
// u32, length u32, body, zeros up to a multiple of 8. The length is that of the body alone. A list
// of them is the state of a guest at the end of an epoch (state.h), part of a guest's description
// (description.h), and what the toolstack is fed with.
#ifndef HAVEN_XEN_BASE_RECORDS_H_
#define HAVEN_XEN_BASE_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace haven {

// The records that we write or read. Values of the specification, but for the last.
enum class XenRecordType : uint32_t {
  kEnd = 0x00,
  kPageData = 0x01,
  kX86TscInfo = 0x08,
  kHvmContext = 0x09,
  kHvmParams = 0x0a,
  kStaticDataEnd = 0x10,
  kX86CpuidPolicy = 0x11,
  kX86MsrPolicy = 0x12,
  // Ours, in states only: the specification has no such number.
  kDeviceModel = 0x7ffd0001,
};

inline constexpr size_t kXenRecordHeaderBytes = 8;
// The specification's limit for one body.
inline constexpr size_t kMaxXenRecordBodyBytes = size_t{128} << 20;

// Bytes that a record with a body of `body_bytes` takes: header, body and padding.
constexpr size_t XenRecordBytes(size_t body_bytes) {
  return kXenRecordHeaderBytes + (body_bytes + 7) / 8 * 8;
}

// Writes records one after the other into memory that the caller owns and keeps alive. Allocates
// nothing. What does not fit is not written, and sets a failure that stays: write everything, then
// look at ok() once. Not thread-safe.
class XenRecordWriter {
 public:
  explicit XenRecordWriter(std::span<std::byte> room) : room_(room) {}

  // A record whose body is `body`.
  void Put(XenRecordType type, std::span<const std::byte> body);

  // A record whose body somebody else writes: Begin() returns all the room that a body can have
  // here (empty after a failure), End() says how much of it became the body. Nothing in between.
  std::span<std::byte> Begin(XenRecordType type);
  void End(size_t body_bytes);

  // True while every record so far has fitted.
  bool ok() const { return ok_; }
  // The records so far.
  std::span<std::byte> written() const { return room_.first(position_); }

 private:
  std::span<std::byte> room_;
  size_t position_ = 0;
  bool ok_ = true;
};

struct XenRecord {
  uint32_t type = 0;  // May be none of XenRecordType.
  std::span<const std::byte> body;
};

// Reads a list of records out of memory that the caller owns and keeps alive. Not thread-safe.
class XenRecordReader {
 public:
  explicit XenRecordReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // Whether all of it was read.
  bool done() const { return position_ == bytes_.size(); }

  // The next record, its body a view. InvalidArgument: it does not fit the bytes that are left, or
  // its padding is not zero. Call only while not done() and after no error. Does not allocate if
  // OK.
  absl::Status Next(XenRecord& record);

  // As Next(), and InvalidArgument unless the record is there and of this type.
  absl::Status Expect(XenRecordType type, std::span<const std::byte>& body);

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_RECORDS_H_
