// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/sharing_gate.h"

namespace haven {

bool SharingGate::BeginEpoch() {
  if (rest_.Rests()) return false;
  if (stage_ != Stage::kCounting) {
    stage_ = stage_ == Stage::kNew ? Stage::kFirstEpoch : Stage::kCounting;
    DropEvidence();
    return true;
  }
  const uint64_t looked = looked_.load(std::memory_order_relaxed);
  const uint64_t found = found_.load(std::memory_order_relaxed);
  if (looked < kEnoughBlocks) return true;
  DropEvidence();
  if (found * kWorth >= looked) {
    rest_.End();
    return true;
  }
  rest_.Begin();
  stage_ = Stage::kNew;
  return false;
}

void SharingGate::Note(uint64_t looked, uint64_t found) {
  looked_.fetch_add(looked, std::memory_order_relaxed);
  found_.fetch_add(found, std::memory_order_relaxed);
}

void SharingGate::Forget() {
  stage_ = Stage::kNew;
  DropEvidence();
}

void SharingGate::Reset() {
  Forget();
  rest_.End();
}

void SharingGate::DropEvidence() {
  looked_.store(0, std::memory_order_relaxed);
  found_.store(0, std::memory_order_relaxed);
}

}  // namespace haven
