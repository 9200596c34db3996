// SPDX-License-Identifier: Apache-2.0
//
// The register in a file on storage that both hosts share.
#ifndef HAVEN_ENGINE_MEMBERSHIP_FILE_ARBITER_H_
#define HAVEN_ENGINE_MEMBERSHIP_FILE_ARBITER_H_

#include <string>

#include "absl/time/time.h"
#include "engine/membership/arbiter.h"

namespace haven {

// Keeps the register of group G in DIRECTORY/G.register (format: arbiter_register_file.h), read
// under a shared and changed under an exclusive lock on that file (arbiter_storage.h). The storage
// must carry record locks between the hosts and keep what was fsynced; docs/arbiter.md says which
// does. A damaged file is reported as kUnknown and never written to.
//
// Asking about a group that has no register leaves an empty file: on NFS only an open that may
// create is certain to ask the server.
//
// The wait for the lock ends with the timeout. Calls of the file system itself can not be
// interrupted: while a hard-mounted server is away they hang, which ArbiterThread allows for.
//
// Thread-safe: every call opens the file anew.
class FileArbiter final : public Arbiter {
 public:
  // `directory` is an absolute path. It need not exist yet.
  explicit FileArbiter(std::string directory);

  RegisterAnswer Read(absl::string_view group, absl::Duration timeout) override;
  RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                               absl::Duration timeout) override;
  std::string Describe() const override;

 private:
  const std::string directory_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_FILE_ARBITER_H_
