// SPDX-License-Identifier: Apache-2.0
//
// The register kept by whatever an operator's program talks to.
#ifndef HAVEN_ENGINE_MEMBERSHIP_EXEC_ARBITER_H_
#define HAVEN_ENGINE_MEMBERSHIP_EXEC_ARBITER_H_

#include <string>

#include "absl/time/time.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/arbiter_child.h"

namespace haven {

// Runs `PROGRAM read GROUP` or `PROGRAM cas GROUP`. For `cas` two lines stand on its stdin, each
// ended by a newline: the expected register and the desired one, in FormatRegister's form; `absent`
// for an expected register that must not exist. The program prints one line with a newline, the
// register as it is after its work, or `absent`, and exits with 0 (read: done, cas: granted) or 1
// (cas: denied). Everything else is kUnknown. docs/arbiter.md is the full contract.
//
// What the program says is checked: `granted` must come with the desired register, and a denial of
// what the register already holds is a grant, so that the program need not know about repetitions.
//
// Thread-safe; calls run their programs at the same time. A call may exceed its timeout by
// ChildRunner::kKillGrace.
class ExecArbiter final : public Arbiter {
 public:
  // `program` is an absolute path.
  explicit ExecArbiter(std::string program);

  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override;
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override;
  std::string Describe() const override;

 private:
  const std::string program_;
  ChildRunner runner_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_EXEC_ARBITER_H_
