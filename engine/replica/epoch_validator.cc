// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/epoch_validator.h"

#include "absl/strings/str_cat.h"
#include "engine/replica/format_error.h"

namespace haven {

absl::Status EpochValidator::Finish(const CommitRecord& record) {
  if (phase_ != Phase::kOpen) return NotOpenError();
  absl::Status checked = CheckRecord(record);
  phase_ = Phase::kDone;
  if (!checked.ok()) return At(absl::StrCat("epoch ", identity_.epoch), checked);
  return checked;
}

absl::Status EpochValidator::CheckRecord(const CommitRecord& record) const {
  const struct {
    const char* field;
    uint64_t value;
    uint64_t expected;
  } comparisons[] = {
      {"session", record.session, identity_.session},
      {"link", record.link, identity_.link},
      {"epoch", record.epoch, identity_.epoch},
      {"kind", static_cast<uint16_t>(record.kind), static_cast<uint16_t>(identity_.kind)},
      {"domain_count", record.domain_count, domain_count_},
      {"chunk_count", record.totals.chunk_count, totals_.chunk_count},
      {"payload_bytes", record.totals.payload_bytes, totals_.payload_bytes},
      {"frame_count", record.totals.frame_count, totals_.frame_count},
      {"page_count", record.totals.page_count, totals_.page_count},
      {"chunks_crc", record.totals.chunks_crc, totals_.chunks_crc},
  };
  for (const auto& [field, value, expected] : comparisons) {
    if (value != expected) {
      return FieldError("commit record", field, value, "as in the chunks and the session,",
                        expected);
    }
  }
  if (identity_.kind == EpochKind::kCheckpoint && state_domain_ != domain_count_) {
    return FieldError("checkpoint", absl::StrCat("bytes of domain ", state_domain_, "'s state"),
                      state_done_, "complete");
  }
  return absl::OkStatus();
}

absl::Status EpochValidator::NotOpenError() const {
  return absl::FailedPreconditionError(
      absl::StrCat("epoch ", identity_.epoch,
                   ": not open for chunks or a commit record: none has begun, or it has failed or "
                   "is finished"));
}

absl::Status EpochValidator::Failed(uint32_t index, const absl::Status& error) {
  phase_ = Phase::kDone;
  return At(absl::StrCat("epoch ", identity_.epoch, " chunk ", index), error);
}

absl::Status EpochValidator::AtFrame(uint32_t frame, const absl::Status& error) {
  return At(absl::StrCat("frame ", frame), error);
}

}  // namespace haven
