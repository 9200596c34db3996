// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_SHORT_FOLDER_TESTING_H_
#define HAVEN_XEN_BASE_SHORT_FOLDER_TESTING_H_

#include <stdlib.h>

#include <filesystem>

#include "engine/base/check.h"

namespace haven {

// A folder that goes with this object. Bazel's folder of a test has too long a name for a socket's
// path.
class ShortFolder {
 public:
  ShortFolder() {
    char name[] = "/tmp/haven_test_XXXXXX";
    HAVEN_CHECK(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~ShortFolder() { std::filesystem::remove_all(path_); }
  ShortFolder(const ShortFolder&) = delete;
  ShortFolder& operator=(const ShortFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_SHORT_FOLDER_TESTING_H_
