// SPDX-License-Identifier: Apache-2.0
//
// The main of a fuzzer in an ordinary configuration, where libFuzzer is not linked: runs
// LLVMFuzzerTestOneInput over the seeds named on the command line, then over mutations of them that
// are the same in each run. This keeps every fuzzer compiling and every seed passing under each
// compiler and sanitizer; the search itself is libFuzzer's.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/file_util.h"
#include "engine/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace haven {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kSeedMaxBytes = size_t{1} << 20;
// In all, whatever the number of seeds, so that a fuzzer's time does not grow with its corpus.
constexpr size_t kMutations = 20'000;
constexpr size_t kEditsMax = 8;
constexpr uint64_t kRandomSeed = 1;

// The input is copied to a block of exactly its size, so that the address sanitizer sees one byte
// too many.
void RunOne(const Bytes& input) {
  const Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

// One change of the kinds that break decoders: a bit, a byte, an interesting integer, a cut, a
// repeat, a splice.
void Edit(Random& random, const std::vector<Bytes>& seeds, Bytes& input) {
  constexpr uint64_t kInteresting[] = {0,          1,          0x7f,       0x80,      0xff,
                                       0x7fff,     0x8000,     0xffff,     4095,      4096,
                                       0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX};
  const size_t at = input.empty() ? 0 : random.Below(input.size());
  switch (random.Below(6)) {
    case 0:
      if (!input.empty()) input[at] ^= static_cast<uint8_t>(1u << random.Below(8));
      break;
    case 1:
      if (!input.empty()) input[at] = static_cast<uint8_t>(random.Next());
      break;
    case 2: {
      const uint64_t value = kInteresting[random.Below(std::size(kInteresting))];
      const size_t width = size_t{1} << random.Below(4);
      if (input.size() - at >= width) std::memcpy(input.data() + at, &value, width);
      break;
    }
    case 3:
      input.resize(at);
      break;
    case 4: {
      const Bytes tail(input.begin() + static_cast<ptrdiff_t>(at), input.end());
      if (input.size() + tail.size() <= kSeedMaxBytes) {
        input.insert(input.end(), tail.begin(), tail.end());
      }
      break;
    }
    default: {
      const Bytes& other = seeds[random.Below(seeds.size())];
      if (at < other.size()) {
        input.resize(at);
        input.insert(input.end(), other.begin() + static_cast<ptrdiff_t>(at), other.end());
      }
    }
  }
}

int Run(std::span<char*> paths) {
  std::vector<Bytes> seeds;
  for (const char* path : paths) {
    const absl::StatusOr<std::string> contents = ReadBoundedFile(path, kSeedMaxBytes);
    if (!contents.ok()) {
      std::fprintf(stderr, "seed: %s\n", contents.status().ToString().c_str());
      return EXIT_FAILURE;
    }
    seeds.emplace_back(contents->begin(), contents->end());
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "usage: fuzzer SEED_FILE...\n");
    return EXIT_FAILURE;
  }
  for (const Bytes& seed : seeds) RunOne(seed);
  RunOne({});
  Random random(kRandomSeed);
  for (size_t i = 0; i < kMutations; ++i) {
    Bytes input = seeds[i % seeds.size()];
    const size_t edits = 1 + random.Below(kEditsMax);
    for (size_t edit = 0; edit < edits; ++edit) Edit(random, seeds, input);
    RunOne(input);
  }
  std::printf("%zu seeds and %zu mutations of them ran\n", seeds.size(), kMutations);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  return haven::Run(std::span<char*>(argv, static_cast<size_t>(argc)).subspan(1));
}
