// SPDX-License-Identifier: Apache-2.0
//
// The file in which a change waits for an operator's word, and what it tells the operator.
//
//   haven-request1 answer=wait
//   group=NAME
//   expected=REGISTER           FormatRegister's line, or "absent"
//   desired=REGISTER            its stamp is the request's id
//   asked=TIME                  for people
//
//   text for people
//
// The file of a request is GROUP.ID.request, ID being 16 hexadecimal digits. A denial replaces the
// word "wait" by "deny" in place, under the file's lock; an approval is the change of the register
// itself.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_REQUEST_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_REQUEST_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/register.h"

namespace haven {

inline constexpr absl::string_view kManualRequestSuffix = ".request";
inline constexpr size_t kManualRequestMaxBytes = 8192;

// A request as its file states it.
struct ManualRequest {
  std::string group;
  RegisterRequest request;
  bool denied = false;
  std::string asked;  // When it was first asked: UTC, RFC 3339.

  friend bool operator==(const ManualRequest&, const ManualRequest&) = default;
};

// "GROUP.ID.request".
std::string ManualRequestFileName(absl::string_view group, RequestId id);

// The content of a request's file, at most kManualRequestMaxBytes. `directory` is the arbiter's,
// for the command that answers.
std::string EncodeManualRequest(absl::string_view directory, absl::string_view group,
                                const RegisterRequest& request, absl::Time asked);

// Reads the lines before the text. DataLoss names the line that is wrong.
absl::StatusOr<ManualRequest> DecodeManualRequest(absl::string_view bytes);

// Where in the file the four letters of the answer stand, and the two answers.
size_t ManualAnswerOffset();
inline constexpr absl::string_view kManualWait = "wait";
inline constexpr absl::string_view kManualDeny = "deny";

// The command an operator types; `answer` is "approve" or "deny".
std::string ManualAnswerCommand(absl::string_view directory, absl::string_view group, RequestId id,
                                absl::string_view answer);

// In plain sentences: what the change means for the guests, and what to make sure of before it is
// approved. Several lines, each ended by a newline.
std::string ExplainChange(absl::string_view group, const RegisterRequest& request);

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_MANUAL_REQUEST_H_
