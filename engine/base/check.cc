// SPDX-License-Identifier: Apache-2.0
#include "engine/base/check.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "engine/base/log.h"

namespace haven::check_internal {

CheckFailure::CheckFailure(const char* file, int line, const std::string& what) {
  stream_ << file << ":" << line << " check failed: " << what << " ";
}

CheckFailure::~CheckFailure() {
  WriteLogLine(LogLevel::kFatal, "check", stream_.str());
  std::abort();
}

const std::string* CheckOk(const absl::Status& status, const char* expression) {
  if (status.ok()) [[likely]]
    return nullptr;
  return new std::string(absl::StrCat(expression, " is OK (", status.ToString(), ")"));
}

}  // namespace haven::check_internal
