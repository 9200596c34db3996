// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_memory.h"

#include <algorithm>
#include <utility>

#include "engine/base/byte_order.h"
#include "engine/base/crc32c.h"

namespace haven {

namespace {

constexpr std::byte kSpecialByte{0x5a};

}  // namespace

void EncodeSimState(const SimState& state, std::span<std::byte> out) {
  ByteWriter writer(out.first(kSimStateBytes));
  writer.PutU32(state.copy);
  writer.PutU32(state.guest);
  writer.PutU64(state.step);
  writer.PutU64(state.capture);
  writer.PutZeros(kSimStateBytes - writer.position());
}

SimState DecodeSimState(std::span<const std::byte> in) {
  ByteReader reader(in);
  SimState state;
  state.copy = reader.GetU32();
  state.guest = reader.GetU32();
  state.step = reader.GetU64();
  state.capture = reader.GetU64();
  return state;
}

SimGuestMemory::SimGuestMemory()
    : storage_(kSimPages * kPageBytes), crcs_(kSimPages, 0), changed_(kSimPages, true) {
  std::vector<uint64_t> ram((kSimPages + 63) / 64, ~uint64_t{0});
  ram[kSimSpecialPage / 64] &= ~(uint64_t{1} << (kSimSpecialPage % 64));
  ram[(kSimPages - 1) / 64] &= (uint64_t{1} << (kSimPages % 64)) - 1;
  view_ = GuestMemory({storage_.data()}, std::move(ram), kSimPages);
  std::fill_n(storage_.data() + kSimSpecialPage * kPageBytes, kPageBytes, kSpecialByte);
}

std::byte* SimGuestMemory::Touch(Gfn gfn) {
  changed_[gfn] = true;
  return storage_.data() + gfn * kPageBytes;
}

uint64_t SimGuestMemory::Hash() {
  uint64_t hash = 0;
  for (Gfn gfn = 0; gfn < kSimPages; ++gfn) {
    if (!view_.IsRam(gfn)) continue;
    if (changed_[gfn]) crcs_[gfn] = ExtendCrc32c(0, {view_.Page(gfn), kPageBytes});
    changed_[gfn] = false;
    hash = hash * 0x9e3779b97f4a7c15 + crcs_[gfn];
  }
  return hash;
}

bool SimGuestMemory::SpecialUntouched() const {
  const std::byte* const page = storage_.data() + kSimSpecialPage * kPageBytes;
  return std::all_of(page, page + kPageBytes, [](std::byte byte) { return byte == kSpecialByte; });
}

}  // namespace haven
