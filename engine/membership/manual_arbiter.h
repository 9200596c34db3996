// SPDX-License-Identifier: Apache-2.0
//
// The register changed by an operator's word only.
#ifndef HAVEN_ENGINE_MEMBERSHIP_MANUAL_ARBITER_H_
#define HAVEN_ENGINE_MEMBERSHIP_MANUAL_ARBITER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_storage.h"
#include "engine/membership/file_arbiter.h"

namespace haven {

// A FileArbiter on the same directory, shared by both hosts, whose changes wait for an approval. A
// request that fits the register is put into a file (arbiter_manual_request.h) and stays kUnknown,
// with a cause that says where to look and what to type, until AnswerManualRequest
// (arbiter_manual_answers.h) has approved or denied exactly this request. The approval itself
// changes the register, by compare-and-set: if it has changed meanwhile, the request is denied
// whatever the operator says. Reads are answered at once.
//
// Thread-safe.
class ManualArbiter final : public Arbiter {
 public:
  // How often a waiting call looks for an answer; a shared file system announces nothing.
  static constexpr absl::Duration kPollInterval = absl::Milliseconds(100);

  // `directory` is an absolute path. It need not exist yet.
  explicit ManualArbiter(std::string directory);

  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override;

  // Waits for the operator until the timeout.
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override;
  std::string Describe() const override;

 private:
  enum class Word { kWaiting, kDenied };

  // Puts the request where the operator looks, unless it is there, and returns what it says.
  absl::StatusOr<Word> Post(const SharedDirectory& directory, absl::string_view group,
                            const RegisterRequest& request, const Deadline& deadline) const;

  RegisterAnswer StillWaiting(absl::string_view group, const RegisterRequest& request) const;

  const std::string directory_;
  FileArbiter register_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_MANUAL_ARBITER_H_
