// SPDX-License-Identifier: Apache-2.0
//
// The operator's side of ManualArbiter: what waits for an answer, and answering it.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_ANSWERS_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_ANSWERS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter_manual_request.h"
#include "engine/membership/register.h"

namespace haven {

enum class ManualVerdict : uint8_t { kApprove, kDeny };

// Files of requests in one directory, beyond which listing and answering are refused.
inline constexpr size_t kManualRequestLimit = 1000;

struct ManualRequestList {
  // Requests that can still be answered, and denied ones whose denial still stands, by file name.
  // Those that the register has left behind are not among them.
  std::vector<ManualRequest> requests;
  // One for every file or group that could not be read.
  std::vector<absl::Status> problems;
};

// Changes nothing. Errors: the directory's (arbiter_storage.h), ResourceExhausted beyond
// kManualRequestLimit. Blocks up to `timeout` for locks.
absl::StatusOr<ManualRequestList> ListManualRequests(const std::string& directory,
                                                     absl::Duration timeout);

// Answers one request of the manual arbiter in `directory`. Giving the same answer again is OK,
// or NotFound when its file is gone by then.
//   OK                  approved: the register holds the desired value; denied: noted for good.
//   InvalidArgument     no such name of a group.
//   NotFound            nobody asks this, or it was resolved before.
//   FailedPrecondition  the other answer was given before, or the register has changed since, which
//                       has made the request void. Nothing was changed.
//   Others              nothing is known; give the same answer again.
absl::Status AnswerManualRequest(const std::string& directory, absl::string_view group,
                                 RequestId id, ManualVerdict verdict, absl::Duration timeout);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_ANSWERS_H_
