// SPDX-License-Identifier: Apache-2.0
//
// Writes the seeds of the format fuzzers below a directory:
//   bazel run //tests/fuzz:write_seeds -- "$PWD/tests/fuzz/corpus"
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/seeds.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_seeds DIRECTORY\n");
    return EXIT_FAILURE;
  }
  for (const auto& [name, bytes] : haven::FuzzSeeds()) {
    const std::filesystem::path path = std::filesystem::path(argv[1]) / name;
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (error || !file) {
      std::fprintf(stderr, "%s: can not be written\n", path.c_str());
      return EXIT_FAILURE;
    }
  }
  return EXIT_SUCCESS;
}
