// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/seeds.h"

#include <functional>
#include <span>
#include <utility>

#include "engine/base/byte_order.h"
#include "engine/base/check.h"
#include "engine/codec/codec_testing.h"
#include "engine/replica/chunk_writer.h"
#include "engine/replica/commit_record.h"
#include "engine/replica/control_message.h"
#include "engine/replica/peer_block.h"
#include "engine/replica/testing.h"

namespace haven {
namespace {

using Bytes = std::vector<std::byte>;
using Seeds = std::map<std::string, Bytes>;

constexpr SessionId kSession = 1;
constexpr LinkNumber kLink = 1;
constexpr Epoch kEpoch = 2;

Bytes GeometryAndRecord(const JournalGeometry& geometry, const CommitRecord& record) {
  Bytes bytes(16 + kCommitRecordBytes);
  ByteWriter writer(bytes);
  writer.PutU32(geometry.slot_bytes);
  writer.PutU32(geometry.ring_slots);
  writer.PutU32(geometry.pool_slots);
  writer.PutU32(geometry.extent_slots);
  EncodeCommitRecord(record, std::span(bytes).subspan<16, kCommitRecordBytes>());
  return bytes;
}

void AddCommitRecords(Seeds& seeds) {
  const JournalGeometry geometry = {
      .slot_bytes = kMinSlotBytes, .ring_slots = 8, .pool_slots = 8, .extent_slots = 2};
  const auto add = [&](const std::string& name, const CommitRecord& record) {
    seeds["commit_record_fuzz/" + name] = GeometryAndRecord(geometry, record);
  };
  CommitRecord record = {.session = kSession,
                         .link = kLink,
                         .kind = EpochKind::kCheckpoint,
                         .epoch = 9,
                         .base_epoch = 8,
                         .domain_count = 2,
                         .placement = {.first_position = 13, .ring_slots_used = 8},
                         .totals = {.chunk_count = 11,
                                    .payload_bytes = 600000,
                                    .frame_count = 40,
                                    .page_count = 140,
                                    .chunks_crc = 0x12345678}};
  record.placement.extent_count = 2;
  record.placement.extents[0] = 3;
  record.placement.extents[1] = 1;
  add("checkpoint", record);
  CommitRecord twice = record;
  twice.placement.extents[1] = 3;
  add("extent_twice", twice);
  CommitRecord behind = record;
  behind.base_epoch = behind.epoch;
  add("base_not_below_epoch", behind);
  CommitRecord too_many = record;
  too_many.totals.chunk_count = 13;
  add("more_chunks_than_room", too_many);
  add("empty_sync",
      {.session = kSession, .link = kLink, .epoch = kEpoch, .base_epoch = 1, .domain_count = 1});
}

void AddSections(Seeds& seeds) {
  const auto heartbeat = [](HeartbeatSender sender, uint32_t state) {
    Bytes bytes(kHeartbeatBytes);
    EncodeHeartbeat(sender, {.session = kSession, .link = kLink, .state = state, .counter = 77},
                    std::span(bytes).first<kHeartbeatBytes>());
    return bytes;
  };
  const auto with_option = [](uint8_t option, const Bytes& section) {
    Bytes bytes = {std::byte{option}};
    bytes.insert(bytes.end(), section.begin(), section.end());
    return bytes;
  };
  const Bytes primary = heartbeat(HeartbeatSender::kPrimary, 3);
  const Bytes backup = heartbeat(HeartbeatSender::kBackup, 2);
  seeds["heartbeat_fuzz/primary"] = with_option(1, primary);
  seeds["heartbeat_fuzz/backup"] = with_option(0, backup);
  seeds["heartbeat_fuzz/of_the_other_side"] = with_option(1, backup);
  seeds["heartbeat_fuzz/unknown_state"] = with_option(0, heartbeat(HeartbeatSender::kBackup, 6));

  const auto peer_block = [&](const Ack& ack) {
    Bytes bytes(kAckBytes);
    EncodeAck(ack, std::span(bytes).first<kAckBytes>());
    bytes.insert(bytes.end(), backup.begin(), backup.end());
    return bytes;
  };
  Ack ack = {.session = kSession,
             .link = kLink,
             .state = BackupState::kStandby,
             .committed_epoch = 9,
             .applied_epoch = 8,
             .ring_tail = 40,
             .credits_granted = 64};
  seeds["peer_block_fuzz/standby"] = peer_block(ack);
  ack.applied_epoch = 10;
  seeds["peer_block_fuzz/applied_beyond_committed"] = peer_block(ack);
  seeds["peer_block_fuzz/fresh"] = peer_block({.session = kSession, .link = kLink});
}

// Chunks in the form that epoch_fuzz takes: behind their lengths, with or without their headers.
class EpochSeed {
 public:
  EpochSeed(EpochKind kind, bool payload_only, bool coded = false)
      : kind_(kind), payload_only_(payload_only) {
    bytes_.push_back(static_cast<std::byte>((kind == EpochKind::kCheckpoint ? 1 : 0) |
                                            (payload_only ? 2 : 0) | (coded ? 4 : 0)));
  }

  EpochSeed& Chunk(const std::function<void(ChunkWriter&)>& fill) {
    Bytes slot(kMinSlotBytes);
    ChunkWriter writer(slot);
    fill(writer);
    const size_t used = kChunkHeaderBytes + writer
                                                .Finish({.session = kSession,
                                                         .link = kLink,
                                                         .epoch = kEpoch,
                                                         .kind = kind_,
                                                         .index = index_})
                                                .payload_bytes;
    ++index_;
    const size_t begin = payload_only_ ? kChunkHeaderBytes : 0;
    std::byte length[2];
    StoreLe16(length, static_cast<uint16_t>(used - begin));
    bytes_.insert(bytes_.end(), length, length + 2);
    bytes_.insert(bytes_.end(), slot.begin() + static_cast<ptrdiff_t>(begin),
                  slot.begin() + static_cast<ptrdiff_t>(used));
    return *this;
  }

  const Bytes& bytes() const { return bytes_; }

 private:
  EpochKind kind_;
  bool payload_only_;
  uint32_t index_ = 0;
  Bytes bytes_;
};

void Zero(ChunkWriter& writer, uint16_t domain, Gfn first, uint32_t pages) {
  HAVEN_CHECK(writer.AppendZeroRun(domain, first, pages));
}

void State(ChunkWriter& writer, uint16_t domain, uint32_t offset, uint32_t total,
           std::string_view fragment) {
  HAVEN_CHECK(writer.AppendState(domain, offset, total, BytesOf(fragment)));
}

void Raw(ChunkWriter& writer, uint16_t domain, Gfn first) {
  const std::span<std::byte> body = writer.AppendRawRun(domain, first, 1);
  HAVEN_CHECK(!body.empty());
  body[0] = std::byte{1};
}

// A patch that copies two blocks of another guest's page and changes one, and a page like that one.
void Coded(ChunkWriter& writer, uint32_t gfn, uint32_t source) {
  CodedPage patch = MakePage(PageKind::kPatch, gfn);
  patch.copy_count = 1;
  patch.copies[0] = {.first = 4, .blocks = 2, .from = 7, .domain = 1, .gfn = source};
  patch.blocks = uint64_t{1} << 9;
  const std::vector<std::byte> body = MakeCodedBody(6, {patch, SamePage(gfn + 3, 1, source)},
                                                    std::vector<std::byte>(64, std::byte{3}));
  HAVEN_CHECK(writer.AppendCoded(0, gfn, 2, body));
}

void AddCodedEpochs(Seeds& seeds) {
  for (const bool payload_only : {false, true}) {
    const auto add = [&](const std::string& name, EpochSeed& seed) {
      seeds["epoch_fuzz/" + name + (payload_only ? "" : "_with_headers")] = seed.bytes();
    };
    add("coded", EpochSeed(EpochKind::kSync, payload_only, true)
                     .Chunk([](ChunkWriter& w) {
                       Zero(w, 0, 0, 7);
                       Coded(w, 8, 30);
                       Raw(w, 0, 20);
                     })
                     .Chunk([](ChunkWriter& w) { Coded(w, 131, 31); }));
    add("coded_source_written",
        EpochSeed(EpochKind::kSync, payload_only, true).Chunk([](ChunkWriter& w) {
          Coded(w, 8, 30);
          Raw(w, 1, 30);
        }));
    add("coded_not_agreed",
        EpochSeed(EpochKind::kSync, payload_only).Chunk([](ChunkWriter& w) { Coded(w, 8, 30); }));
  }
}

void AddEpochs(Seeds& seeds) {
  for (const bool payload_only : {false, true}) {
    const auto add = [&](const std::string& name, EpochSeed& seed) {
      seeds["epoch_fuzz/" + name + (payload_only ? "" : "_with_headers")] = seed.bytes();
    };
    add("checkpoint", EpochSeed(EpochKind::kCheckpoint, payload_only)
                          .Chunk([](ChunkWriter& w) {
                            Zero(w, 0, 0, 7);
                            Raw(w, 0, 8);
                            Zero(w, 1, 0, 70);
                            State(w, 0, 0, 10, "first");
                          })
                          .Chunk([](ChunkWriter& w) {
                            State(w, 0, 5, 10, "later");
                            State(w, 1, 0, 4, "data");
                          }));
    add("sync", EpochSeed(EpochKind::kSync, payload_only)
                    .Chunk([](ChunkWriter& w) { Zero(w, 0, 65, 65); })
                    .Chunk([](ChunkWriter& w) { Zero(w, 0, 131, 69); }));
    add("into_a_hole", EpochSeed(EpochKind::kSync, payload_only).Chunk([](ChunkWriter& w) {
      Zero(w, 0, 0, 6);
      Zero(w, 0, 6, 3);
    }));
    add("not_ascending", EpochSeed(EpochKind::kSync, payload_only)
                             .Chunk([](ChunkWriter& w) { Zero(w, 1, 5, 5); })
                             .Chunk([](ChunkWriter& w) { Zero(w, 1, 9, 1); }));
    add("state_missing", EpochSeed(EpochKind::kCheckpoint, payload_only).Chunk([](ChunkWriter& w) {
      State(w, 0, 0, 64, "the first bytes");
    }));
  }
}

Hello SampleHello() {
  return {.offer = {},
          .node_id = "host-a",
          .group = "web",
          .session = 9,
          .base_session = 5,
          .base_epoch = 41,
          .slot_bytes = kDefaultSlotBytes,
          .max_epoch_slots = 64,
          .detect_ns = 100'000'000,
          .interval_ns = 25'000'000,
          .return_address = "10.0.0.1:7000",
          .domains = {{.name = "g1",
                       .uuid = "01234567-89ab-cdef-0123-456789abcdef",
                       .config = "config",
                       .page_count = 0x1000,
                       .max_state_bytes = 65536,
                       .ram = {{0, 0xa0}, {0x100, 0xf00}}},
                      {.name = "g2",
                       .uuid = "11234567-89ab-cdef-0123-456789abcdef",
                       .config = "",
                       .page_count = 1,
                       .max_state_bytes = 1,
                       .ram = {{0, 1}}}}};
}

void AddControlMessages(Seeds& seeds) {
  const JournalGeometry geometry = {.ring_slots = 32, .pool_slots = 64};
  const ControlMessage messages[] = {
      SampleHello(),
      Welcome{.agreement = {.version = 1, .features = 0},
              .node_id = "host-b",
              .session = 9,
              .geometry = geometry,
              .journal_region = FromHex("010203"),
              .session_address = "10.0.0.2:7001",
              .base_accepted = true,
              .base_epoch = 41},
      Refuse{.code = RefuseCode::kMemory, .message = "RLIMIT_MEMLOCK is 64 KiB"},
      LinkRequest{.session = 9, .link = 1, .peer_region = FromHex("0a0b")},
      LinkOffer{.session = 9,
                .link = 1,
                .committed_epoch = 4,
                .applied_epoch = 3,
                .next_position = 20,
                .ring_tail = 17,
                .lanes = {FromHex("01"), FromHex("02")}},
      LinkReady{.session = 9, .link = 1},
      ExtentRequest{.session = 9, .link = 1, .epoch = 5, .extents = 2},
      ExtentGrant{.session = 9, .link = 1, .epoch = 5, .extents = {3, 1}},
      HeartbeatMessage{.session = 9, .sender = HeartbeatSender::kPrimary, .state = 3, .counter = 5},
      Handover{.session = 9, .epoch = 5},
      HandoverRefused{.session = 9, .reason = "busy"},
      Promoted{.session = 9, .term = 2},
      Drop{.session = 9, .reason = DropReason::kShutdown, .message = "bye"},
  };
  for (const ControlMessage& message : messages) {
    const std::string name(ControlMessageName(message));
    Bytes bytes = EncodeControlMessage(message).value();
    seeds["control_message_fuzz/" + name] = bytes;
    bytes.pop_back();
    seeds["control_message_fuzz/" + name + "_cut"] = bytes;
  }
}

// A byte to change, the bits to flip, and a payload of two frames' size.
void AddSealedChunks(Seeds& seeds) {
  const auto add = [&](const std::string& name, uint16_t place, uint8_t flip) {
    Bytes bytes(3 + 2 * kFrameAlignment, std::byte{0x31});
    StoreLe16(bytes.data(), place);
    bytes[2] = std::byte{flip};
    seeds["sealed_chunk_fuzz/" + name] = std::move(bytes);
  };
  add("untouched", 0, 0);
  add("flags", 6, 1);
  add("index", 20, 1);
  add("tag_head", 40, 0x80);
  add("tag_tail", 57, 1);
  add("payload", kChunkHeaderBytes + 5, 0x10);
}

}  // namespace

std::map<std::string, std::vector<std::byte>> FuzzSeeds() {
  Seeds seeds;
  AddCommitRecords(seeds);
  AddSections(seeds);
  AddEpochs(seeds);
  AddCodedEpochs(seeds);
  AddControlMessages(seeds);
  AddSealedChunks(seeds);
  return seeds;
}

}  // namespace haven
