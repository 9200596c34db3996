// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/verify.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread.h"
#include "engine/synthetic/layout.h"
#include "engine/synthetic/workload.h"

namespace haven {
namespace {

constexpr std::array<std::byte, kPageBytes> kZeroPage{};

// The part of one vCPU.
class PartitionVerifier {
 public:
  PartitionVerifier(const SyntheticSpec& spec, const GuestMemory& memory,
                    const SyntheticState& state, uint32_t vcpu)
      : spec_(spec),
        layout_(spec),
        workload_(spec, layout_, vcpu),
        memory_(memory),
        want_(state.vcpus[vcpu]),
        vcpu_(vcpu) {}

  absl::Status Run(std::span<const uint64_t> zero_frames) {
    const RamRange range = layout_.Partition(vcpu_);
    for (uint64_t index = 0; index < range.pages; ++index) {
      const Gfn gfn = layout_.RamFrame(range.first + index);
      const size_t word = static_cast<size_t>(gfn / 64);
      if (word < zero_frames.size() && ((zero_frames[word] >> (gfn % 64)) & 1) != 0) continue;
      HAVEN_RETURN_IF_ERROR(CheckPage(gfn));
    }
    if (last_ != want_.writes) {
      return absl::DataLossError(absl::StrCat("synthetic guest ", spec_.name, ": vCPU ", vcpu_,
                                              ": the last write in its memory is ", last_,
                                              " instead of ", want_.writes));
    }
    if (sum_ == want_.checksum) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(
        "synthetic guest ", spec_.name, ": vCPU ", vcpu_, " after write ", want_.writes,
        ": every block is genuine, but their checksum is ", absl::Hex(sum_), " instead of ",
        absl::Hex(want_.checksum), ": some blocks are older or newer than the state"));
  }

 private:
  absl::Status CheckPage(Gfn gfn) {
    const std::span<const std::byte> page(memory_.Page(gfn), kPageBytes);
    if (std::memcmp(page.data(), kZeroPage.data(), kPageBytes) == 0) return absl::OkStatus();
    for (uint32_t offset = 0; offset < kPageBytes; offset += spec_.block_bytes) {
      HAVEN_RETURN_IF_ERROR(CheckBlock({gfn, offset}, page.subspan(offset, spec_.block_bytes)));
    }
    return absl::OkStatus();
  }

  absl::Status CheckBlock(BlockPlace place, std::span<const std::byte> block) {
    const uint64_t number = LoadLe64(block.data());
    if (number == 0) return Compare(place, block, std::span(kZeroPage).first(block.size()));
    if (number > want_.writes) {
      return Different(place, absl::StrCat("it holds write ", number,
                                           ", later than the state's last, ", want_.writes));
    }
    if (workload_.Place(number) != place) {
      return Different(place, absl::StrCat("it holds write ", number, ", whose place is frame ",
                                           workload_.Place(number).gfn, " byte ",
                                           workload_.Place(number).offset_bytes));
    }
    const std::span<std::byte> expected = std::span(expected_).first(block.size());
    workload_.Generate(number, place, expected);
    sum_ += workload_.Tag(number, place);
    last_ = std::max(last_, number);
    return Compare(place, block, expected);
  }

  absl::Status Compare(BlockPlace place, std::span<const std::byte> found,
                       std::span<const std::byte> expected) {
    const auto at = std::mismatch(found.begin(), found.end(), expected.begin());
    if (at.first == found.end()) return absl::OkStatus();
    const auto byte = static_cast<size_t>(at.first - found.begin());
    return Different(
        place, absl::StrCat("byte ", byte, " of the block is ", std::to_integer<int>(*at.first),
                            " instead of ", std::to_integer<int>(*at.second), " (write ",
                            LoadLe64(expected.data()), ")"));
  }

  absl::Status Different(BlockPlace place, absl::string_view finding) const {
    return absl::DataLossError(absl::StrCat("synthetic guest ", spec_.name, ": vCPU ", vcpu_,
                                            ", frame ", place.gfn, ", block at byte ",
                                            place.offset_bytes, ": ", finding));
  }

  const SyntheticSpec& spec_;
  const SyntheticLayout layout_;
  const VcpuWorkload workload_;
  const GuestMemory& memory_;
  const VcpuState want_;
  const uint32_t vcpu_;
  uint64_t sum_ = 0;
  uint64_t last_ = 0;
  std::array<std::byte, kPageBytes> expected_;
};

}  // namespace

absl::Status VerifySyntheticImage(const SyntheticSpec& spec, const GuestMemory& memory,
                                  const SyntheticState& state,
                                  std::span<const uint64_t> zero_frames) {
  const SyntheticLayout layout(spec);
  if (memory.page_count() != layout.page_count()) {
    return absl::InvalidArgumentError(absl::StrCat("synthetic guest ", spec.name, ": memory of ",
                                                   memory.page_count(), " frames instead of ",
                                                   layout.page_count()));
  }
  std::vector<absl::Status> results(spec.vcpus);
  std::vector<Thread> threads;
  for (uint32_t vcpu = 0; vcpu < spec.vcpus; ++vcpu) {
    HAVEN_ASSIGN_OR_RETURN(Thread thread, Thread::Start("synthetic-proof", [&, vcpu] {
                             results[vcpu] =
                                 PartitionVerifier(spec, memory, state, vcpu).Run(zero_frames);
                           }));
    threads.push_back(std::move(thread));
  }
  threads.clear();  // Joined.
  for (const absl::Status& result : results) HAVEN_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

}  // namespace haven
