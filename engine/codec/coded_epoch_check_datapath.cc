// SPDX-License-Identifier: Apache-2.0
#include "engine/base/status_macros.h"
#include "engine/codec/coded_epoch_check.h"
#include "engine/replica/features.h"
#include "engine/replica/format_error.h"

namespace haven {
namespace {

constexpr uint64_t kChangedBlocks = static_cast<uint64_t>(Feature::kChangedBlocks);
constexpr uint64_t kSameAs = static_cast<uint64_t>(Feature::kSameAs);
constexpr uint64_t kCompressionBit = static_cast<uint64_t>(Feature::kCompression);
constexpr uint64_t kPackedBit = static_cast<uint64_t>(Feature::kPackedLiterals);

}  // namespace

absl::Status CodedEpochCheck::AddRun(uint16_t domain, Gfn first, uint32_t pages) {
  if (pages_.AddWritten(domain, first, pages)) return absl::OkStatus();
  return FieldError("run", "first frame number", first,
                    "that of pages to which no coded page refers");
}

absl::Status CodedEpochCheck::AddCoded(const Frame& frame, Gfn* end) {
  decoder_.Open({.first_gfn = static_cast<uint32_t>(frame.first_gfn()),
                 .count = frame.count,
                 .body = frame.body});
  if (decoder_.compressed()) HAVEN_RETURN_IF_ERROR(CheckFeature(kCompressionBit, "compression"));
  if (decoder_.packed()) HAVEN_RETURN_IF_ERROR(CheckFeature(kPackedBit, "packed-literals"));
  while (decoder_.Next(&page_)) {
    HAVEN_RETURN_IF_ERROR(AddPage(frame.domain));
    *end = Gfn{page_.gfn} + 1;
  }
  return decoder_.status();
}

absl::Status CodedEpochCheck::AddPage(uint16_t domain) {
  HAVEN_RETURN_IF_ERROR(CheckCodedPage(page_, domain, memories_));
  const bool patch = page_.kind == PageKind::kPatch;
  if ((patch && page_.copy_count != 0) || page_.kind == PageKind::kSame) {
    HAVEN_RETURN_IF_ERROR(CheckFeature(kSameAs, "same-as"));
  }
  if (patch && (page_.zeros != 0 || page_.blocks != 0 || page_.run_count != 0)) {
    HAVEN_RETURN_IF_ERROR(CheckFeature(kChangedBlocks, "changed-blocks"));
  }
  if (!pages_.AddWritten(domain, page_.gfn, 1) || !AddSources()) return SourceError();
  return absl::OkStatus();
}

bool CodedEpochCheck::AddSources() {
  if (page_.kind == PageKind::kSame && !page_.same_in_frame) {
    return pages_.AddSource(page_.same_domain, page_.same_gfn);
  }
  if (page_.kind != PageKind::kPatch) return true;
  for (const BlockCopy& copy : std::span(page_.copies).first(page_.copy_count)) {
    if (!pages_.AddSource(copy.domain, copy.gfn)) return false;
  }
  return true;
}

absl::Status CheckCodedPage(const CodedPage& page, uint16_t domain,
                            std::span<const GuestMemory* const> memories) {
  if (domain >= memories.size() || !memories[domain]->IsRam(page.gfn)) {
    return FieldError("coded page", "frame number", page.gfn, "RAM of domain", domain);
  }
  const auto is_ram = [&](uint16_t source, uint32_t gfn) {
    return source < memories.size() && memories[source]->IsRam(gfn);
  };
  if (page.kind == PageKind::kSame && !page.same_in_frame &&
      !is_ram(page.same_domain, page.same_gfn)) {
    return FieldError("coded page", "same-as", page.same_gfn, "RAM of domain", page.same_domain);
  }
  if (page.kind != PageKind::kPatch) return absl::OkStatus();
  for (const BlockCopy& copy : std::span(page.copies).first(page.copy_count)) {
    if (!is_ram(copy.domain, copy.gfn)) {
      return FieldError("coded page", "source of a copy", copy.gfn, "RAM of domain", copy.domain);
    }
  }
  return absl::OkStatus();
}

}  // namespace haven
