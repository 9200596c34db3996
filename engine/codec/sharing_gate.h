// SPDX-License-Identifier: Apache-2.0
//
// Whether it is worth its time to look for blocks that the replica has elsewhere.
#ifndef HAVEN_ENGINE_CODEC_SHARING_GATE_H_
#define HAVEN_ENGINE_CODEC_SHARING_GATE_H_

#include <atomic>
#include <cstdint>

#include "engine/base/growing_rest.h"

namespace haven {

// Looking a block up takes several times as long as finding out that it has changed, and some
// programs have nothing twice. So looking rests for some epochs once it has found less than one
// block of kWorth, for longer each time that another look was in vain. What is sent is right either
// way.
//
// BeginEpoch(), Forget() and Reset() are called by one thread while no Note() runs; Note() by any.
class SharingGate {
 public:
  // One block found of so many pays for looking.
  static constexpr uint64_t kWorth = 16;
  // Blocks that are looked at before anything is concluded.
  static constexpr uint64_t kEnoughBlocks = 4096;
  // Epochs of the first rest; each further one is twice as long, up to the longest.
  static constexpr uint32_t kFirstRest = 16;
  static constexpr uint32_t kLongestRest = 1024;

  // An epoch begins. True: look in it.
  bool BeginEpoch();

  // Of the epoch that has begun: so many changed blocks could have stood elsewhere, so many did.
  void Note(uint64_t looked, uint64_t found);

  // The replica's pages are not known any more: what is found in the next epoch says nothing.
  void Forget();

  // As new.
  void Reset();

 private:
  // Of the first epoch of a look nothing counts: its blocks were not looked at before, so nobody
  // knows where they stand.
  enum class Stage : uint8_t { kNew, kFirstEpoch, kCounting };

  void DropEvidence();

  std::atomic<uint64_t> looked_{0};
  std::atomic<uint64_t> found_{0};
  Stage stage_ = Stage::kNew;
  // The epoch that ends a look is one of those without.
  GrowingRest rest_{kFirstRest - 1, kLongestRest - 1};
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_SHARING_GATE_H_
