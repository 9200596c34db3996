// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/mutant.h"
#include "engine/base/status_macros.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/format_error.h"
#include "engine/replica/ram_run.h"

namespace haven {

EpochValidator::EpochValidator(std::span<const EpochTarget> targets, CodedFrameCheck* coded,
                               ChunkOpener* opener)
    : domain_count_(static_cast<uint16_t>(targets.size())), coded_(coded), opener_(opener) {
  HAVEN_CHECK_GE(targets.size(), 1u);
  HAVEN_CHECK_LE(targets.size(), kMaxDomains);
  for (const EpochTarget& target : targets) HAVEN_CHECK(target.memory != nullptr);
  std::copy(targets.begin(), targets.end(), targets_.begin());
}

void EpochValidator::Begin(SessionId session, LinkNumber link, Epoch epoch, EpochKind kind,
                           std::span<const std::span<std::byte>> states) {
  keep_states_ = !states.empty();
  if (keep_states_) {
    HAVEN_CHECK_EQ(states.size(), domain_count_) << "epoch=" << epoch;
    for (uint16_t domain = 0; domain < domain_count_; ++domain) {
      HAVEN_CHECK_GE(states[domain].size(), targets_[domain].max_state_bytes)
          << "epoch=" << epoch << " domain=" << domain;
      state_buffers_[domain] = states[domain];
    }
  }
  phase_ = Phase::kOpen;
  identity_ = {.session = session, .link = link, .epoch = epoch, .kind = kind, .index = 0};
  totals_ = EpochTotals();
  run_domain_ = 0;
  next_gfn_ = 0;
  state_domain_ = 0;
  state_done_ = 0;
  states_begun_ = false;
  state_bytes_.fill(0);
  if (coded_ != nullptr) coded_->Begin();
}

absl::Status EpochValidator::AddChunk(std::span<const std::byte> slot, uint32_t index) {
  if (phase_ != Phase::kOpen) return NotOpenError();
  absl::Status checked = CheckChunk(slot, index);
  if (!checked.ok()) return Failed(index, checked);
  ++identity_.index;
  return checked;
}

absl::Status EpochValidator::CheckChunk(std::span<const std::byte> slot, uint32_t index) {
  ChunkHeader header;
  ChunkTotals totals;
  HAVEN_RETURN_IF_ERROR(DecodeChunkHeader(slot, &header, &totals.chunk_crc));
  HAVEN_RETURN_IF_ERROR(CheckIdentity(header.identity, index));
  std::span<const std::byte> payload = ChunkPayload(slot, header);
  if (opener_ != nullptr) {
    const absl::StatusOr<std::span<const std::byte>> plain = opener_->Open(header, payload);
    if (!plain.ok()) return plain.status();
    payload = *plain;
  } else {
    HAVEN_RETURN_IF_ERROR(CheckPlain(header, payload));
  }
  FrameCursor cursor(payload);
  Frame frame;
  while (cursor.Next(&frame)) {
    const absl::Status checked =
        frame.type == FrameType::kState ? CheckState(frame) : CheckPages(frame);
    if (!checked.ok()) return AtFrame(cursor.frame_count() - 1, checked);
    if (frame.type != FrameType::kState) totals.page_count += frame.count;
  }
  HAVEN_RETURN_IF_ERROR(cursor.status());
  if (cursor.frame_count() != header.frame_count) {
    return FieldError("chunk header", "frame_count", header.frame_count,
                      "the frames that are there,", cursor.frame_count());
  }
  totals.payload_bytes = header.payload_bytes;
  totals.frame_count = header.frame_count;
  totals_.Add(totals);
  return absl::OkStatus();
}

absl::Status EpochValidator::CheckPlain(const ChunkHeader& header,
                                        std::span<const std::byte> payload) {
  if (header.sealed) return FieldError("chunk header", "flags", 1, "0: no sealing was agreed on");
  const uint32_t payload_crc = Crc32c(payload);
  if (payload_crc == header.payload_crc || HAVEN_MUTANT(kApplyBeforeVerify)) {
    return absl::OkStatus();
  }
  return CrcError("chunk header", "payload_crc", header.payload_crc, payload_crc);
}

absl::Status EpochValidator::CheckIdentity(const ChunkIdentity& identity, uint32_t index) const {
  constexpr char kWhat[] = "chunk header";
  if (index != identity_.index) {
    return FieldError("chunk", "index given", index, "the next in order,", identity_.index);
  }
  if (identity.session != identity_.session) {
    return FieldError(kWhat, "session", identity.session, "equal to", identity_.session);
  }
  if (identity.link != identity_.link) {
    return FieldError(kWhat, "link", identity.link, "equal to", identity_.link);
  }
  if (identity.epoch != identity_.epoch) {
    return FieldError(kWhat, "epoch", identity.epoch, "equal to", identity_.epoch);
  }
  if (identity.kind != identity_.kind) {
    return FieldError(kWhat, "kind", static_cast<uint16_t>(identity.kind), "equal to",
                      static_cast<uint16_t>(identity_.kind));
  }
  if (identity.index != identity_.index) {
    return FieldError(kWhat, "index", identity.index, "equal to", identity_.index);
  }
  return absl::OkStatus();
}

absl::Status EpochValidator::CheckPages(const Frame& frame) {
  if (states_begun_) {
    return FieldError("run", "type", static_cast<uint8_t>(frame.type),
                      "3: runs precede all states");
  }
  if (frame.domain >= domain_count_) {
    return FieldError("run", "domain", frame.domain, "below", domain_count_);
  }
  if (frame.domain < run_domain_) {
    return FieldError("run", "domain", frame.domain, "ascending, not below", run_domain_);
  }
  const Gfn lowest = frame.domain == run_domain_ ? next_gfn_ : 0;
  if (frame.first_gfn() < lowest) {
    return FieldError("run", "first frame number", frame.first_gfn(),
                      "ascending without overlap, not below", lowest);
  }
  Gfn end = 0;
  if (frame.type != FrameType::kCodedPages) {
    HAVEN_RETURN_IF_ERROR(CheckRun(frame, &end));
  } else if (coded_ != nullptr) {
    HAVEN_RETURN_IF_ERROR(coded_->AddCoded(frame, &end));
  } else {
    return FieldError("run", "type", static_cast<uint8_t>(frame.type),
                      "1, 2 or 3: no coded pages were agreed on");
  }
  run_domain_ = frame.domain;
  next_gfn_ = end;
  return absl::OkStatus();
}

absl::Status EpochValidator::CheckRun(const Frame& frame, Gfn* end) {
  *end = frame.first_gfn() + frame.count;  // FrameCursor saw that it does not wrap.
  const Gfn not_ram = FirstNotRam(*targets_[frame.domain].memory, frame.first_gfn(), frame.count);
  if (not_ram != *end) {
    return FieldError("run", "frame number", not_ram, "RAM of domain", frame.domain);
  }
  if (coded_ == nullptr) return absl::OkStatus();
  return coded_->AddRun(frame.domain, frame.first_gfn(), frame.count);
}

absl::Status EpochValidator::CheckState(const Frame& frame) {
  if (identity_.kind != EpochKind::kCheckpoint) {
    return FieldError("state", "type", static_cast<uint8_t>(frame.type),
                      "1 or 2: a sync epoch has no state");
  }
  if (state_domain_ == domain_count_) {
    return FieldError("state", "domain", frame.domain, "absent: every state is complete already");
  }
  if (frame.domain != state_domain_) {
    return FieldError("state", "domain", frame.domain, "the next whose state is incomplete,",
                      state_domain_);
  }
  if (frame.state_offset() != state_done_) {
    return FieldError("state", "offset", frame.state_offset(), "the next byte's,", state_done_);
  }
  if (state_done_ == 0) {
    const uint32_t max_bytes = targets_[frame.domain].max_state_bytes;
    if (frame.state_total() > max_bytes) {
      return FieldError("state", "total", frame.state_total(), "at most", max_bytes);
    }
    state_bytes_[frame.domain] = frame.state_total();
  } else if (frame.state_total() != state_bytes_[frame.domain]) {
    return FieldError("state", "total", frame.state_total(), "as in its first fragment,",
                      state_bytes_[frame.domain]);
  }
  if (keep_states_) {
    std::memcpy(state_buffers_[frame.domain].data() + state_done_, frame.body.data(), frame.count);
  }
  states_begun_ = true;
  state_done_ += frame.count;
  if (state_done_ == state_bytes_[frame.domain]) {
    ++state_domain_;
    state_done_ = 0;
  }
  return absl::OkStatus();
}

}  // namespace haven
