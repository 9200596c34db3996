// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_LINK_CHECK_WIRE_H_
#define HAVEN_TRANSPORT_VERBS_LINK_CHECK_WIRE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/endpoint.h"

namespace haven {

// How the two processes of verbs_check talk: the checking one says what the serving one is to do,
// one order at a time, and gets one answer. An order and an answer are a word and some bytes.
struct CheckMessage {
  std::string word;
  std::string body;
};

// The region that the checking process writes.
inline constexpr uint64_t kCheckJournalBytes = uint64_t{4} << 20;
// The region that the serving process writes, and scratch of both.
inline constexpr uint64_t kCheckBlockBytes = uint64_t{1} << 20;
// The byte that fills what the serving process writes.
inline constexpr uint8_t kCheckServedByte = 0x5a;

inline constexpr absl::Duration kCheckTimeout = absl::Seconds(60);

absl::Status SendCheck(ControlChannel& channel, absl::string_view word, absl::string_view body);
absl::StatusOr<CheckMessage> ReceiveCheck(ControlChannel& channel);

// Polls, and sleeps on the link's event in between, until a completion comes. DeadlineExceeded.
absl::StatusOr<Completion> NextCompletion(Link& link, absl::Duration timeout);

// The serving process: serves `connection` until its peer leaves. Returns why it ended.
absl::Status ServeCheck(Transport& transport, int connection);

// The checking process: runs every case but those that only measure, or the one named. The number
// of cases that failed; an error: not even a session came about.
absl::StatusOr<int> RunChecks(Transport& transport, const std::string& address,
                              const std::string& only);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_LINK_CHECK_WIRE_H_
