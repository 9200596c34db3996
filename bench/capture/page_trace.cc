// SPDX-License-Identifier: Apache-2.0
#include "bench/capture/page_trace.h"

#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// A file is this header, then one zstd frame of everything else.
constexpr uint32_t kMagic = 0x52545648;  // "HVTR".
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;  // Magic, version, size of the rest before compression.
constexpr uint64_t kMaxTraceBytes = uint64_t{4} << 30;
// Versions of a page lie an epoch apart: the window must reach that far.
constexpr int kLevel = 19;
constexpr int kWindowLog = 27;

size_t EpochBytes(const TraceEpoch& epoch) {
  return 4 + 4 * epoch.gfns.size() + epoch.pages.size();
}

void PutEpoch(ByteWriter& out, const TraceEpoch& epoch) {
  out.PutU32(static_cast<uint32_t>(epoch.gfns.size()));
  for (const uint32_t gfn : epoch.gfns) out.PutU32(gfn);
  out.PutBytes(epoch.pages);
}

bool GetEpoch(ByteReader& in, uint32_t page_count, TraceEpoch* epoch) {
  const uint32_t pages = in.GetU32();
  if (pages > in.remaining() / (4 + kPageBytes)) return false;
  uint64_t next = 0;
  for (uint32_t i = 0; i < pages; ++i) {
    const uint32_t gfn = in.GetU32();
    if (gfn < next || gfn >= page_count) return false;
    next = uint64_t{gfn} + 1;
    epoch->gfns.push_back(gfn);
  }
  const std::span<const std::byte> bytes = in.GetBytes(size_t{pages} * kPageBytes);
  epoch->pages.assign(bytes.begin(), bytes.end());
  return in.ok();
}

absl::Status ZstdError(const char* what, size_t code) {
  return absl::UnavailableError(absl::StrCat("trace: ", what, ": ", ZSTD_getErrorName(code)));
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> EncodeTrace(const PageTrace& trace) {
  size_t bytes = 4 + trace.origin.size() + 8 + EpochBytes(trace.base);
  for (const TraceEpoch& epoch : trace.epochs) bytes += EpochBytes(epoch);
  std::vector<std::byte> plain(bytes);
  ByteWriter writer(plain);
  writer.PutU32(static_cast<uint32_t>(trace.origin.size()));
  writer.PutBytes(std::as_bytes(std::span(trace.origin)));
  writer.PutU32(trace.page_count);
  writer.PutU32(static_cast<uint32_t>(trace.epochs.size()));
  PutEpoch(writer, trace.base);
  for (const TraceEpoch& epoch : trace.epochs) PutEpoch(writer, epoch);

  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     &ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_enableLongDistanceMatching, 1);
  std::vector<std::byte> file(kHeaderBytes + ZSTD_compressBound(plain.size()));
  ByteWriter header(file);
  header.PutU32(kMagic);
  header.PutU32(kVersion);
  header.PutU64(plain.size());
  const size_t packed = ZSTD_compress2(context.get(), file.data() + kHeaderBytes,
                                       file.size() - kHeaderBytes, plain.data(), plain.size());
  if (ZSTD_isError(packed) != 0) return ZstdError("compress", packed);
  file.resize(kHeaderBytes + packed);
  return file;
}

absl::StatusOr<PageTrace> DecodeTrace(const std::vector<std::byte>& bytes) {
  ByteReader header(bytes);
  const uint32_t magic = header.GetU32();
  const uint32_t version = header.GetU32();
  const uint64_t plain_bytes = header.GetU64();
  if (!header.ok() || magic != kMagic || version != kVersion || plain_bytes > kMaxTraceBytes) {
    return absl::DataLossError("trace: the header is not that of a trace of version 1");
  }
  std::vector<std::byte> plain(plain_bytes);
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     &ZSTD_freeDCtx);
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLog);
  const size_t got = ZSTD_decompressDCtx(context.get(), plain.data(), plain.size(),
                                         bytes.data() + kHeaderBytes, bytes.size() - kHeaderBytes);
  if (ZSTD_isError(got) != 0 || got != plain.size()) {
    return absl::DataLossError("trace: the content does not expand to the size in the header");
  }
  PageTrace trace;
  ByteReader reader(plain);
  const std::span<const std::byte> origin = reader.GetBytes(reader.GetU32());
  for (const std::byte byte : origin) trace.origin.push_back(static_cast<char>(byte));
  trace.page_count = reader.GetU32();
  const uint32_t epochs = reader.GetU32();
  bool good = GetEpoch(reader, trace.page_count, &trace.base);
  for (uint32_t i = 0; good && i < epochs; ++i) {
    good = GetEpoch(reader, trace.page_count, &trace.epochs.emplace_back());
  }
  if (!good || !reader.done()) {
    return absl::DataLossError(absl::StrCat("trace: epoch ", trace.epochs.size(),
                                            " is cut off or its frame numbers do not ascend"));
  }
  return trace;
}

absl::StatusOr<PageTrace> ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  absl::StatusOr<PageTrace> trace = DecodeTrace({bytes.begin(), bytes.end()});
  if (!trace.ok()) return absl::DataLossError(absl::StrCat(path, ": ", trace.status().message()));
  return trace;
}

absl::Status WriteTrace(const std::string& path, const PageTrace& trace) {
  absl::StatusOr<std::vector<std::byte>> bytes = EncodeTrace(trace);
  HAVEN_RETURN_IF_ERROR(bytes.status());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (const std::byte byte : *bytes) file.put(static_cast<char>(byte));
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  return absl::OkStatus();
}

}  // namespace haven
