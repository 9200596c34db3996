// SPDX-License-Identifier: Apache-2.0
//
// The memory of a simulated guest and its state record.
#ifndef HAVEN_TESTS_SIM_SIM_MEMORY_H_
#define HAVEN_TESTS_SIM_SIM_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/replica/guest_memory.h"
#include "tests/sim/sim_checks.h"

namespace haven {

inline constexpr uint64_t kSimPages = 80;
inline constexpr uint64_t kSimSpecialPage = 78;  // Not RAM: the engine must leave it alone.
inline constexpr size_t kSimStateBytes = 64;

void EncodeSimState(const SimState& state, std::span<std::byte> out);
SimState DecodeSimState(std::span<const std::byte> in);

// Plain memory as a guest has it.
class SimGuestMemory {
 public:
  SimGuestMemory();
  const GuestMemory& view() const { return view_; }
  // To be written: the page counts as changed.
  std::byte* Touch(Gfn gfn);
  // Of all RAM pages. Whatever was written without Touch() was written before the first call.
  uint64_t Hash();
  // The special page is as it was made.
  bool SpecialUntouched() const;

 private:
  std::vector<std::byte> storage_;
  std::vector<uint32_t> crcs_;  // Of the pages that have not changed since the last Hash().
  std::vector<bool> changed_;
  GuestMemory view_;
};

}  // namespace haven

#endif  // HAVEN_TESTS_SIM_SIM_MEMORY_H_
