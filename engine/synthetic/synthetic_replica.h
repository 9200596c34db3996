// SPDX-License-Identifier: Apache-2.0
//
// The waiting copy of a synthetic guest on the backup.
#ifndef HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_REPLICA_H_
#define HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_REPLICA_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backup/replica_domain.h"
#include "engine/synthetic/connection.h"
#include "engine/synthetic/launcher.h"
#include "engine/synthetic/spec.h"

namespace haven {

// ReplicaDomain: a guest's process that was built like the original and has never run. It ends by
// itself when this object's process dies before Outlive(). Its memory is zero at first.
//
// With verify=1 Prepare proves that the memory is that of the state's instant; if it is not, the
// copy refuses to run. Either way a report (report.h) tells what it found. That takes time in
// proportion to the memory that was ever written; with verify=0 Prepare and Run take none of that.
class SyntheticReplica final : public ReplicaDomain {
 public:
  // `config` is the original's DomainInfo::config, `overrides` what is different on this host
  // (OverrideSyntheticSpec). InvalidArgument: one of them is not sound; otherwise as of
  // LaunchGuestProcess.
  static absl::StatusOr<std::unique_ptr<SyntheticReplica>> Create(const SyntheticLaunch& launch,
                                                                  absl::string_view config,
                                                                  absl::string_view overrides);
  ~SyntheticReplica() override;

  const GuestMemory& memory() const override { return connection_->memory(); }
  absl::Status CheckState(std::span<const std::byte> state) const override;
  absl::Status Prepare(std::span<const std::byte> state) override;
  absl::Status Outlive() override;
  absl::Status Run() override;
  // FailedPrecondition after Run().
  absl::Status Abandon() override;

  pid_t pid() const { return connection_->pid(); }

 private:
  explicit SyntheticReplica(std::shared_ptr<SyntheticConnection> connection);

  const std::shared_ptr<SyntheticConnection> connection_;
  bool running_ = false;
  bool abandoned_ = false;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_REPLICA_H_
