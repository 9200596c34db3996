// SPDX-License-Identifier: Apache-2.0
#include "engine/control/hello_builder.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace haven {

absl::StatusOr<std::vector<RamRun>> RamRuns(const GuestMemory& memory) {
  std::vector<RamRun> runs;
  Gfn gfn = 0;
  while (gfn < memory.page_count()) {
    const uint64_t word = memory.ram_bitmap()[gfn / 64];
    if (gfn % 64 == 0 && word == 0) {
      gfn += 64;
      continue;
    }
    if (!memory.IsRam(gfn)) {
      ++gfn;
      continue;
    }
    // Whole words at once: most of a guest is RAM.
    const bool whole = gfn % 64 == 0 && word == ~uint64_t{0} && memory.page_count() - gfn >= 64;
    const uint64_t pages = whole ? 64 : 1;
    if (!runs.empty() && runs.back().first_gfn + runs.back().pages == gfn) {
      runs.back().pages += pages;
    } else {
      if (runs.size() == kMaxRamRuns) {
        return absl::ResourceExhaustedError(absl::StrCat("the RAM lies in more than ", kMaxRamRuns,
                                                         " pieces, which this format can not say"));
      }
      runs.push_back({.first_gfn = gfn, .pages = pages});
    }
    gfn += pages;
  }
  return runs;
}

absl::StatusOr<Hello> BuildHello(const HelloParameters& parameters,
                                 std::span<Domain* const> domains) {
  Hello hello;
  hello.offer = parameters.offer;
  hello.node_id = parameters.node_id;
  hello.group = parameters.group;
  hello.slot_bytes = parameters.slot_bytes;
  if (parameters.slot_bytes == 0 || parameters.staging_bytes < parameters.slot_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("group ", parameters.group, ": staging of ", parameters.staging_bytes,
                     " bytes holds no slot of ", parameters.slot_bytes, " bytes; enlarge it"));
  }
  hello.max_epoch_slots = static_cast<uint32_t>(std::min<uint64_t>(
      parameters.staging_bytes / parameters.slot_bytes, std::numeric_limits<uint32_t>::max()));
  hello.detect_ns = static_cast<uint64_t>(std::max<int64_t>(parameters.detect_ns, 0));
  hello.interval_ns = static_cast<uint64_t>(std::max<int64_t>(parameters.interval_ns, 0));
  hello.return_address = parameters.return_address;
  for (const Domain* domain : domains) {
    HelloDomain described;
    described.name = domain->info().name;
    described.uuid = domain->info().uuid;
    described.config = domain->info().config;
    described.page_count = domain->memory().page_count();
    described.max_state_bytes = static_cast<uint32_t>(
        std::min<size_t>(domain->max_state_bytes(), std::numeric_limits<uint32_t>::max()));
    absl::StatusOr<std::vector<RamRun>> runs = RamRuns(domain->memory());
    if (!runs.ok()) {
      return absl::Status(runs.status().code(),
                          absl::StrCat("guest ", described.name, ": ", runs.status().message()));
    }
    described.ram = *std::move(runs);
    hello.domains.push_back(std::move(described));
  }
  // Whatever the encoder would refuse later is the caller's mistake now.
  hello.session = 1;
  HAVEN_RETURN_IF_ERROR(EncodeControlMessage(hello).status());
  hello.session = kNoSession;
  return hello;
}

}  // namespace haven
