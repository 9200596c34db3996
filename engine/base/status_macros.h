// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_STATUS_MACROS_H_
#define HAVEN_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expression`, an absl::Status, is not OK.
#define HAVEN_RETURN_IF_ERROR(expression)                            \
  do {                                                               \
    ::absl::Status haven_status = (expression);                      \
    if (ABSL_PREDICT_FALSE(!haven_status.ok())) return haven_status; \
  } while (false)

// HAVEN_ASSIGN_OR_RETURN(const Epoch epoch, DecodeEpoch(bytes));
// Declares or assigns the first argument from an absl::StatusOr, or returns its error. More than
// one statement: not for the body of an `if` without braces. A first argument with a comma of its
// own needs an alias for its type.
#define HAVEN_ASSIGN_OR_RETURN(declaration, ...) \
  HAVEN_ASSIGN_OR_RETURN_(HAVEN_STATUS_NAME_(haven_status_or_, __LINE__), declaration, __VA_ARGS__)

#define HAVEN_ASSIGN_OR_RETURN_(result, declaration, ...)                  \
  auto result = (__VA_ARGS__);                                             \
  if (ABSL_PREDICT_FALSE(!result.ok())) return std::move(result).status(); \
  declaration = *std::move(result)

#define HAVEN_STATUS_NAME_(prefix, line) HAVEN_STATUS_CONCAT_(prefix, line)
#define HAVEN_STATUS_CONCAT_(prefix, line) prefix##line

#endif  // HAVEN_ENGINE_BASE_STATUS_MACROS_H_
