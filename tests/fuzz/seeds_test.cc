// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/seeds.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace haven {
namespace {

constexpr char kCorpus[] = "tests/fuzz/corpus";

// Inputs that fuzzing has found are kept beside the generated ones, under this prefix.
constexpr char kFoundPrefix[] = "found_";

TEST(SeedsTest, TheCommittedCorpusIsWhatTheFormatsWriteToday) {
  for (const auto& [name, bytes] : FuzzSeeds()) {
    const std::filesystem::path path = std::filesystem::path(kCorpus) / name;
    std::ifstream file(path, std::ios::binary);
    ASSERT_TRUE(file) << path << " is missing: run //tests/fuzz:write_seeds";
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(content, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
        << path << " is out of date: run //tests/fuzz:write_seeds";
  }
}

TEST(SeedsTest, NothingElseLiesInTheCorpusOfTheseFuzzers) {
  std::set<std::string> fuzzers;
  std::set<std::string> names;
  for (const auto& [name, bytes] : FuzzSeeds()) {
    names.insert(name);
    fuzzers.insert(name.substr(0, name.find('/')));
  }
  for (const std::string& fuzzer : fuzzers) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(kCorpus) / fuzzer)) {
      const std::filesystem::path name = fuzzer / entry.path().filename();
      if (name.filename().string().starts_with(kFoundPrefix)) continue;
      EXPECT_EQ(names.count(name.string()), 1u) << entry.path();
    }
  }
}

}  // namespace
}  // namespace haven
