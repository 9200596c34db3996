// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte of options, then chunks, each behind its length of two bytes. Options: bit 0, the
// epoch is a checkpoint; bit 1, the chunks are payloads only and get a fitting header (else they
// begin with their own); bit 2, coded pages were agreed on, with all features. All CRCs are
// repaired. What EpochValidator accepts is compared with a slow model of the rules, and is applied
// frame by frame, once from the first to the last and once the other way round and twice: the
// result must be the same.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/codec/coded_epoch_check.h"
#include "engine/replica/epoch_validator.h"
#include "engine/replica/features.h"
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
    if (frame.type == FrameType::kCodedPages) return TakeCoded(frame);
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
      Write(frame.domain, gfn);
    }
  }

  // After the last frame.
  void CheckSources() const {
    for (const auto& [domain, gfn] : sources_) {
      HAVEN_CHECK_LT(domain, kDomains);
      HAVEN_CHECK(guests_[domain]->IsRam(gfn)) << "gfn=" << gfn;
      HAVEN_CHECK(!written_[domain][gfn]) << "gfn=" << gfn;
    }
  }

  uint64_t pages() const { return pages_; }
  const std::vector<std::byte>& state(uint16_t domain) const { return states_[domain]; }

 private:
  void Write(uint16_t domain, Gfn gfn) {
    HAVEN_CHECK(guests_[domain]->IsRam(gfn)) << "gfn=" << gfn;
    HAVEN_CHECK(!written_[domain][gfn]) << "gfn=" << gfn;
    written_[domain][gfn] = true;
    ++pages_;
    for (const std::vector<std::byte>& state : states_) HAVEN_CHECK(state.empty());
  }

  void TakeCoded(const Frame& frame) {
    static CodedFrameDecoder decoder;
    static CodedPage page;
    decoder.Open({.first_gfn = static_cast<uint32_t>(frame.first_gfn()),
                  .count = frame.count,
                  .body = frame.body});
    while (decoder.Next(&page)) {
      Write(frame.domain, page.gfn);
      if (page.kind == PageKind::kSame && !page.same_in_frame) {
        sources_.push_back({page.same_domain, page.same_gfn});
      }
      if (page.kind != PageKind::kPatch) continue;
      for (uint32_t i = 0; i < page.copy_count; ++i) {
        sources_.push_back({page.copies[i].domain, page.copies[i].gfn});
      }
    }
    HAVEN_CHECK_OK(decoder.status());
  }

  std::vector<const GuestMemory*> guests_;
  std::vector<std::pair<uint16_t, Gfn>> sources_;
  std::vector<std::vector<bool>> written_;
  std::vector<std::vector<std::byte>> states_;
  uint64_t pages_ = 0;
};

// The replicas' memory, from the same bytes on each time.
class Replicas {
 public:
  explicit Replicas(const std::vector<const GuestMemory*>& guests) {
    Random random(1);
    for (const GuestMemory* guest : guests) {
      bytes_.emplace_back(guest->page_count() * kPageBytes);
      random.Fill(bytes_.back());
    }
    for (size_t i = 0; i < guests.size(); ++i) {
      memories_.push_back(std::make_unique<GuestMemory>(std::vector<std::byte*>{bytes_[i].data()},
                                                        guests[i]->ram_bitmap(),
                                                        guests[i]->page_count()));
      pointers_.push_back(memories_.back().get());
    }
  }

  void Apply(const Frame& frame) {
    if (frame.type == FrameType::kState) return;
    const GuestMemory& memory = *memories_[frame.domain];
    if (frame.type == FrameType::kCodedPages) {
      static CodedFrameDecoder decoder;
      static CodedPage page;
      decoder.Open({.first_gfn = static_cast<uint32_t>(frame.first_gfn()),
                    .count = frame.count,
                    .body = frame.body});
      while (decoder.Next(&page)) {
        HAVEN_CHECK_OK(CheckCodedPage(page, frame.domain, pointers_));
        ApplyCodedPage(page, decoder.block_shift(), pointers_, memory.Page(page.gfn));
      }
      HAVEN_CHECK_OK(decoder.status());
      return;
    }
    for (uint32_t i = 0; i < frame.count; ++i) {
      std::byte* page = memory.Page(frame.first_gfn() + i);
      if (frame.type == FrameType::kZeroRun) {
        std::fill_n(page, kPageBytes, std::byte{0});
      } else {
        std::copy_n(frame.body.data() + size_t{i} * kPageBytes, kPageBytes, page);
      }
    }
  }

  bool operator==(const Replicas& other) const { return bytes_ == other.bytes_; }

 private:
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::unique_ptr<GuestMemory>> memories_;
  std::vector<const GuestMemory*> pointers_;
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

void CheckAnyOrder(const std::vector<const GuestMemory*>& guests,
                   const std::vector<Frame>& frames) {
  Replicas forwards(guests);
  for (const Frame& frame : frames) forwards.Apply(frame);
  Replicas backwards(guests);
  for (int time = 0; time < 2; ++time) {
    for (size_t i = frames.size(); i > 0; --i) backwards.Apply(frames[i - 1]);
  }
  HAVEN_CHECK(forwards == backwards);
}

void RunOne(std::span<const std::byte> input) {
  static const GuestMemory first = MakeGuest(200, {7, 64, 130});
  static const GuestMemory second = MakeGuest(70);
  ByteReader reader(input);
  const uint8_t options = reader.GetU8();
  const EpochKind kind = (options & 1) != 0 ? EpochKind::kCheckpoint : EpochKind::kSync;
  const std::vector<Slot> chunks = Chunks(reader, (options & 2) != 0, kind);

  const std::vector<const GuestMemory*> guests = {&first, &second};
  static CodedEpochCheck check(guests, kCodecFeatures);
  EpochValidator validator(
      std::vector<EpochTarget>{{.memory = &first, .max_state_bytes = kMaxState},
                               {.memory = &second, .max_state_bytes = kMaxState}},
      (options & 4) != 0 ? &check : nullptr);
  std::vector<std::byte> buffers[kDomains] = {std::vector<std::byte>(kMaxState),
                                              std::vector<std::byte>(kMaxState)};
  const std::span<std::byte> states[kDomains] = {buffers[0], buffers[1]};
  validator.Begin(kSession, kLink, kEpoch, kind, states);
  Model model(guests);
  std::vector<Frame> frames;
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    if (!validator.AddChunk(chunks[i], i).ok()) return;
    ChunkHeader header;
    uint32_t crc = 0;
    HAVEN_CHECK_OK(DecodeChunkHeader(chunks[i], &header, &crc));
    FrameCursor cursor(ChunkPayload(chunks[i], header));
    Frame frame;
    while (cursor.Next(&frame)) {
      model.Take(frame);
      frames.push_back(frame);
    }
    HAVEN_CHECK_OK(cursor.status());
  }
  HAVEN_CHECK_EQ(validator.totals().page_count, model.pages());
  model.CheckSources();
  if ((options & 4) != 0) CheckAnyOrder(guests, frames);
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
