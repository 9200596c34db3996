// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_SHORT_FOLDER_TESTING_H_
#define HAVEN_ENGINE_BASE_SHORT_FOLDER_TESTING_H_

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include "engine/base/check.h"

namespace haven {

// A fresh folder whose path is short enough for a socket in it, which Bazel's folder of a test
// often is not; removed with all that it holds.
class ShortFolder {
 public:
  ShortFolder() {
    char name[] = "/tmp/haven_test_XXXXXX";
    HAVEN_CHECK(mkdtemp(name) != nullptr) << "errno " << errno;
    path_ = name;
  }
  ~ShortFolder() {
    // A process that the test has started may still write there.
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ShortFolder(const ShortFolder&) = delete;
  ShortFolder& operator=(const ShortFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_SHORT_FOLDER_TESTING_H_
