// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte of options, then chunks, each behind its length of two bytes. Options: bit 0, the
// epoch is a checkpoint; bit 1, the chunks are payloads only and get a fitting header (else they
// begin with their own). All CRCs are repaired. What EpochValidator accepts is compared with a slow
// model of the rules.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

constexpr SessionId kSession = 1;
constexpr LinkNumber kLink = 1;
constexpr Epoch kEpoch = 2;
constexpr uint16_t kDomains = 2;
constexpr uint32_t kMaxState = 64;

using Slot = std::vector<std::byte>;

// Keeps every page and every byte of state that an accepted epoch has written.
class Model {
 public:
  explicit Model(const std::vector<const GuestMemory*>& guests) : guests_(guests) {
    for (const GuestMemory* guest : guests) written_.emplace_back(guest->page_count());
    states_.resize(guests.size());
  }

  void Take(const Frame& frame) {
    HAVEN_CHECK_LT(frame.domain, kDomains);
    if (frame.type == FrameType::kState) {
      HAVEN_CHECK_EQ(frame.state_offset(), states_[frame.domain].size());
      HAVEN_CHECK_LE(frame.state_total(), kMaxState);
      states_[frame.domain].insert(states_[frame.domain].end(), frame.body.begin(),
                                   frame.body.end());
      return;
    }
    if (frame.type == FrameType::kRawRun) {
      HAVEN_CHECK_EQ(frame.body.size(), frame.count * kPageBytes);
    }
    for (Gfn gfn = frame.first_gfn(); gfn < frame.first_gfn() + frame.count; ++gfn) {
      HAVEN_CHECK(guests_[frame.domain]->IsRam(gfn)) << "gfn=" << gfn;
      HAVEN_CHECK(!written_[frame.domain][gfn]) << "gfn=" << gfn;
      written_[frame.domain][gfn] = true;
      ++pages_;
    }
    for (const std::vector<std::byte>& state : states_) HAVEN_CHECK(state.empty());
  }

  uint64_t pages() const { return pages_; }
  const std::vector<std::byte>& state(uint16_t domain) const { return states_[domain]; }

 private:
  std::vector<const GuestMemory*> guests_;
  std::vector<std::vector<bool>> written_;
  std::vector<std::vector<std::byte>> states_;
  uint64_t pages_ = 0;
};

uint32_t CountFrames(std::span<const std::byte> payload) {
  FrameCursor cursor(payload);
  Frame frame;
  while (cursor.Next(&frame)) {
  }
  return cursor.frame_count();
}

// A slot of exactly the size of what is in it, so that the address sanitizer sees one byte too
// many.
Slot WithHeader(std::span<const std::byte> payload, EpochKind kind, uint32_t index) {
  Slot slot(kChunkHeaderBytes + payload.size());
  std::ranges::copy(payload, slot.begin() + kChunkHeaderBytes);
  EncodeChunkHeader(
      {.identity =
           {.session = kSession, .link = kLink, .epoch = kEpoch, .kind = kind, .index = index},
       .payload_bytes = static_cast<uint32_t>(payload.size()),
       .frame_count = CountFrames(payload),
       .payload_crc = Crc32c(payload)},
      std::span(slot).first<kChunkHeaderBytes>());
  return slot;
}

std::vector<Slot> Chunks(ByteReader& reader, bool payload_only, EpochKind kind) {
  std::vector<Slot> chunks;
  while (reader.remaining() > 2) {
    const size_t length = reader.GetU16();
    const std::span<const std::byte> bytes = reader.GetBytes(std::min(length, reader.remaining()));
    if (payload_only) {
      chunks.push_back(WithHeader(bytes, kind, static_cast<uint32_t>(chunks.size())));
    } else {
      chunks.emplace_back(bytes.begin(), bytes.end());
      if (bytes.size() >= kChunkHeaderBytes) RepairChunk(chunks.back());
    }
  }
  return chunks;
}

void RunOne(std::span<const std::byte> input) {
  static const GuestMemory first = MakeGuest(200, {7, 64, 130});
  static const GuestMemory second = MakeGuest(70);
  ByteReader reader(input);
  const uint8_t options = reader.GetU8();
  const EpochKind kind = (options & 1) != 0 ? EpochKind::kCheckpoint : EpochKind::kSync;
  const std::vector<Slot> chunks = Chunks(reader, (options & 2) != 0, kind);

  EpochValidator validator(
      std::vector<EpochTarget>{{.memory = &first, .max_state_bytes = kMaxState},
                               {.memory = &second, .max_state_bytes = kMaxState}});
  std::vector<std::byte> buffers[kDomains] = {std::vector<std::byte>(kMaxState),
                                              std::vector<std::byte>(kMaxState)};
  const std::span<std::byte> states[kDomains] = {buffers[0], buffers[1]};
  validator.Begin(kSession, kLink, kEpoch, kind, states);
  Model model({&first, &second});
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    if (!validator.AddChunk(chunks[i], i).ok()) return;
    ChunkHeader header;
    uint32_t crc = 0;
    HAVEN_CHECK_OK(DecodeChunkHeader(chunks[i], &header, &crc));
    FrameCursor cursor(ChunkPayload(chunks[i], header));
    Frame frame;
    while (cursor.Next(&frame)) model.Take(frame);
    HAVEN_CHECK_OK(cursor.status());
  }
  HAVEN_CHECK_EQ(validator.totals().page_count, model.pages());
  const absl::Status finished = validator.Finish({.session = kSession,
                                                  .link = kLink,
                                                  .kind = kind,
                                                  .epoch = kEpoch,
                                                  .domain_count = kDomains,
                                                  .totals = validator.totals()});
  if (!finished.ok()) {
    HAVEN_CHECK(kind == EpochKind::kCheckpoint) << finished;
    return;
  }
  for (uint16_t domain = 0; domain < kDomains; ++domain) {
    HAVEN_CHECK_EQ(model.state(domain).empty(), kind == EpochKind::kSync);
    HAVEN_CHECK_EQ(model.state(domain).size(), validator.state_bytes(domain));
    HAVEN_CHECK(std::ranges::equal(
        model.state(domain), std::span(buffers[domain]).first(validator.state_bytes(domain))));
  }
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
