// SPDX-License-Identifier: Apache-2.0
#include "xen/base/records.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/byte_order.h"
#include "engine/base/check.h"

namespace haven {

void XenRecordWriter::Put(XenRecordType type, std::span<const std::byte> body) {
  const std::span<std::byte> room = Begin(type);
  if (body.size() > room.size()) {
    ok_ = false;
    return;
  }
  if (!body.empty()) std::memcpy(room.data(), body.data(), body.size());
  End(body.size());
}

std::span<std::byte> XenRecordWriter::Begin(XenRecordType type) {
  if (!ok_ || room_.size() - position_ < kXenRecordHeaderBytes) {
    ok_ = false;
    return {};
  }
  StoreLe32(room_.data() + position_, static_cast<uint32_t>(type));
  const std::span<std::byte> body = room_.subspan(position_ + kXenRecordHeaderBytes);
  // Only whole multiples of 8, so that the padding fits whatever length End() names.
  return body.first(std::min(body.size() / 8 * 8, kMaxXenRecordBodyBytes));
}

void XenRecordWriter::End(size_t body_bytes) {
  if (!ok_) return;
  const size_t bytes = XenRecordBytes(body_bytes);
  HAVEN_CHECK_LE(body_bytes, kMaxXenRecordBodyBytes);
  HAVEN_CHECK_LE(bytes, room_.size() - position_);
  std::byte* const record = room_.data() + position_;
  StoreLe32(record + 4, static_cast<uint32_t>(body_bytes));
  std::memset(record + kXenRecordHeaderBytes + body_bytes, 0,
              bytes - kXenRecordHeaderBytes - body_bytes);
  position_ += bytes;
}

absl::Status XenRecordReader::Next(XenRecord& record) {
  const std::span<const std::byte> left = bytes_.subspan(position_);
  if (left.size() < kXenRecordHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("Xen record at byte ", position_, ": only ",
                                                   left.size(), " bytes are left for its header"));
  }
  const uint32_t type = LoadLe32(left.data());
  const uint32_t body_bytes = LoadLe32(left.data() + 4);
  if (body_bytes > kMaxXenRecordBodyBytes || XenRecordBytes(body_bytes) > left.size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Xen record %#x at byte %u: length is %u, must fit the %u bytes left", type,
                        position_, body_bytes, left.size()));
  }
  const std::span<const std::byte> padding =
      left.subspan(kXenRecordHeaderBytes + body_bytes,
                   XenRecordBytes(body_bytes) - kXenRecordHeaderBytes - body_bytes);
  for (const std::byte byte : padding) {
    if (byte != std::byte{0}) {
      return absl::InvalidArgumentError(
          absl::StrFormat("Xen record %#x at byte %u: its padding must be zero", type, position_));
    }
  }
  record.type = type;
  record.body = left.subspan(kXenRecordHeaderBytes, body_bytes);
  position_ += XenRecordBytes(body_bytes);
  return absl::OkStatus();
}

absl::Status XenRecordReader::Expect(XenRecordType type, std::span<const std::byte>& body) {
  const uint32_t wanted = static_cast<uint32_t>(type);
  const size_t at = position_;
  if (done()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Xen records end at byte %u, record %#x must follow", at, wanted));
  }
  XenRecord record;
  absl::Status next = Next(record);
  if (!next.ok()) return next;
  if (record.type != wanted) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Xen record at byte %u is %#x, must be %#x", at, record.type, wanted));
  }
  body = record.body;
  return absl::OkStatus();
}

}  // namespace haven
