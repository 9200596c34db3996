// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/migration_stream.h"

#include <algorithm>
#include <array>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "xen/base/records.h"
#include "xen/base/state.h"

namespace haven {
namespace {

// As xl writes it: 32 bytes, the last of which are zero.
constexpr char kXlMagic[33] = "Xen saved domain, xl format\n \0 \r";
constexpr uint32_t kXlByteOrder = 0x01020304;
constexpr uint32_t kXlConfigIsJson = 1 << 0;
constexpr uint32_t kXlStreamVersion2 = 1 << 1;

constexpr uint64_t kLibxlMagic = 0x4c6962786c466d74;  // "LibxlFmt"
constexpr uint32_t kLibxlVersion = 2;
constexpr uint32_t kLibxlEnd = 0;
constexpr uint32_t kLibxlLibxcContext = 1;
constexpr uint32_t kLibxlEmulatorContext = 3;
constexpr uint32_t kQemuXen = 2;  // Kind of emulator: EMULATOR_QEMU_UPSTREAM.

constexpr uint64_t kLibxcMarker = 0xffffffffffffffff;
constexpr uint32_t kLibxcMagic = 0x58454e46;  // "XENF"
constexpr uint32_t kLibxcVersion = 3;
constexpr uint32_t kDomainTypeHvm = 2;
constexpr uint16_t kPageShift = 12;
// The version whose saver is imitated.
constexpr uint32_t kXenMajor = 4;
constexpr uint32_t kXenMinor = 17;

// As many as the stock saver puts into one record.
constexpr size_t kFramesPerRecord = 1024;
constexpr uint64_t kAllocateOnly = uint64_t{0xe} << 60;

class StreamWriter {
 public:
  explicit StreamWriter(const StreamSink& sink) : sink_(sink) {}

  void Bytes(std::span<const std::byte> bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  void Text(const char* text, size_t bytes) { Bytes(std::as_bytes(std::span(text, bytes))); }
  template <typename T>
  void Little(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    byte_order_internal::Store(bytes.data(), value);
    Bytes(bytes);
  }
  // The headers of both streams are big-endian.
  template <typename T>
  void Big(T value) {
    for (size_t i = sizeof(T); i-- > 0;)
      buffer_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  void Record(XenRecordType type, std::span<const std::byte> body) {
    const size_t at = buffer_.size();
    buffer_.resize(at + XenRecordBytes(body.size()));
    XenRecordWriter writer{std::span<std::byte>(buffer_).subspan(at)};
    writer.Put(type, body);
  }

  absl::Status Flush() {
    absl::Status sent = sink_(buffer_);
    buffer_.clear();
    return sent;
  }

 private:
  const StreamSink& sink_;
  std::vector<std::byte> buffer_;
};

void WriteXlHeader(const std::string& config_json, StreamWriter& stream) {
  const uint32_t config_bytes = static_cast<uint32_t>(config_json.size()) + 1;
  stream.Text(kXlMagic, 32);
  stream.Little(kXlByteOrder);
  stream.Little(kXlConfigIsJson | kXlStreamVersion2);
  stream.Little(uint32_t{0});
  stream.Little(config_bytes + 4);
  stream.Little(config_bytes);
  // The receiver reads it as a string of C.
  stream.Text(config_json.c_str(), config_bytes);
}

void WriteStreamHeaders(StreamWriter& stream) {
  stream.Big(kLibxlMagic);
  stream.Big(kLibxlVersion);
  stream.Big(uint32_t{0});
  stream.Little(kLibxlLibxcContext);
  stream.Little(uint32_t{0});
  stream.Big(kLibxcMarker);
  stream.Big(kLibxcMagic);
  stream.Big(kLibxcVersion);
  stream.Big(uint16_t{0});
  stream.Big(uint16_t{0});
  stream.Big(uint32_t{0});
  stream.Little(kDomainTypeHvm);
  stream.Little(kPageShift);
  stream.Little(uint16_t{0});
  stream.Little(kXenMajor);
  stream.Little(kXenMinor);
}

// One PAGE_DATA record of frames without content.
class AllocationRecord {
 public:
  void Add(uint64_t gfn) {
    StoreLe64(body_.data() + 8 + 8 * count_, gfn | kAllocateOnly);
    ++count_;
  }
  bool full() const { return count_ == kFramesPerRecord; }

  absl::Status SendTo(StreamWriter& stream) {
    if (count_ == 0) return absl::OkStatus();
    StoreLe32(body_.data(), static_cast<uint32_t>(count_));
    StoreLe32(body_.data() + 4, 0);
    stream.Record(XenRecordType::kPageData, std::span(body_).first(8 + 8 * count_));
    count_ = 0;
    return stream.Flush();
  }

 private:
  std::vector<std::byte> body_ = std::vector<std::byte>(8 + 8 * kFramesPerRecord);
  size_t count_ = 0;
};

absl::Status WriteFrames(const std::vector<XenFrameRun>& frames, StreamWriter& stream) {
  AllocationRecord record;
  for (const XenFrameRun& run : frames) {
    for (uint64_t i = 0; i < run.pages; ++i) {
      record.Add(run.first_gfn + i);
      if (record.full()) HAVEN_RETURN_IF_ERROR(record.SendTo(stream));
    }
  }
  return record.SendTo(stream);
}

// The order of the specification: parameters before the context. The state's own is the saver's.
absl::Status WriteState(std::span<const std::byte> first_state, StreamWriter& stream) {
  HAVEN_ASSIGN_OR_RETURN(const XenState state, ParseXenState(first_state));
  std::vector<std::byte> room(first_state.size());
  XenRecordWriter records(room);
  PutXenTscInfo(records, state.tsc);
  PutHvmParams(records, state.params());
  records.Put(XenRecordType::kHvmContext, state.hvm_context);
  stream.Bytes(records.written());
  return absl::OkStatus();
}

// In native order, padded as all of libxl's records are.
void WriteEmulatorContext(std::span<const std::byte> saved, StreamWriter& stream) {
  const uint32_t body_bytes = static_cast<uint32_t>(8 + saved.size());
  stream.Little(kLibxlEmulatorContext);
  stream.Little(body_bytes);
  stream.Little(kQemuXen);
  stream.Little(uint32_t{0});  // Number of the emulator.
  stream.Bytes(saved);
  constexpr std::array<std::byte, 7> kPadding = {};
  stream.Bytes(std::span(kPadding).first((8 - body_bytes % 8) % 8));
}

}  // namespace

absl::Status WriteMigrationStream(const XenDescription& description, const std::string& config_json,
                                  const StreamSink& sink,
                                  const std::function<absl::Status()>& before_state,
                                  const std::function<absl::Status()>& before_end) {
  StreamWriter stream(sink);
  WriteXlHeader(config_json, stream);
  WriteStreamHeaders(stream);
  stream.Record(XenRecordType::kX86CpuidPolicy, description.cpuid_policy);
  if (!description.msr_policy.empty()) {
    stream.Record(XenRecordType::kX86MsrPolicy, description.msr_policy);
  }
  stream.Record(XenRecordType::kStaticDataEnd, {});
  HAVEN_RETURN_IF_ERROR(stream.Flush());
  HAVEN_RETURN_IF_ERROR(WriteFrames(description.frames, stream));
  HAVEN_RETURN_IF_ERROR(WriteState(description.first_state, stream));
  stream.Record(XenRecordType::kEnd, {});
  if (!description.device_model.empty()) {
    HAVEN_RETURN_IF_ERROR(stream.Flush());
    if (before_state) HAVEN_RETURN_IF_ERROR(before_state());
    WriteEmulatorContext(kEmptyDeviceModelState, stream);
    HAVEN_RETURN_IF_ERROR(stream.Flush());
    if (before_end) HAVEN_RETURN_IF_ERROR(before_end());
  }
  stream.Little(kLibxlEnd);
  stream.Little(uint32_t{0});
  return stream.Flush();
}

}  // namespace haven
