// SPDX-License-Identifier: Apache-2.0
//
// The seeds of the format fuzzers: small inputs, good and nearly good, from which they start. The
// files in corpus/ are what this returns; seeds_test compares them, write_seeds writes them.
#ifndef HAVEN_TESTS_FUZZ_SEEDS_H_
#define HAVEN_TESTS_FUZZ_SEEDS_H_

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace haven {

// Content by path below corpus/: "commit_record_fuzz/checkpoint", ...
std::map<std::string, std::vector<std::byte>> FuzzSeeds();

}  // namespace haven

#endif  // HAVEN_TESTS_FUZZ_SEEDS_H_
