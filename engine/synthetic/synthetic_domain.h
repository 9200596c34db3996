// SPDX-License-Identifier: Apache-2.0
//
// A synthetic guest as the engine on the primary sees it.
#ifndef HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_DOMAIN_H_
#define HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_DOMAIN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/primary/domain.h"
#include "engine/synthetic/connection.h"

namespace haven {

// Domain. EnableLogDirty starts with an empty log: the engine copies every page after it anyway.
// CaptureState needs a suspended guest (FailedPrecondition). Destroy kills the guest's process.
class SyntheticDomain final : public Domain {
 public:
  explicit SyntheticDomain(std::shared_ptr<SyntheticConnection> connection);

  const DomainInfo& info() const override { return info_; }
  const GuestMemory& memory() const override { return connection_->memory(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override;
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override;
  absl::StatusOr<uint64_t> CountDirty() override;
  void DisableLogDirty() override;
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override;
  size_t max_state_bytes() const override;
  DomainEnd End() override;
  absl::Status LetRun() override;
  absl::Status Destroy() override;

 private:
  absl::Status CheckLog();

  const std::shared_ptr<SyntheticConnection> connection_;
  const DomainInfo info_;
  // Count of breaks before which the log is whole.
  uint64_t breaks_ = 0;
};

// SuspendMethod: the vCPU threads stop between two writes. A guest that an earlier engine left
// suspended stays so until Resume(). Once the guest's process is dead event_fd() stays readable.
class SyntheticSuspend final : public SuspendMethod {
 public:
  // ResourceExhausted: no descriptors left.
  static absl::StatusOr<std::unique_ptr<SyntheticSuspend>> Create(
      std::shared_ptr<SyntheticConnection> connection);

  absl::Status Request() override;
  State Poll() override;
  absl::Status Resume() override;
  int event_fd() const override { return epoll_fd_.get(); }

 private:
  SyntheticSuspend(std::shared_ptr<SyntheticConnection> connection, UniqueFd epoll_fd);

  const std::shared_ptr<SyntheticConnection> connection_;
  const UniqueFd epoll_fd_;
  // Ids are times, so that no two engines of one guest ever use the same.
  uint64_t last_id_ = 0;
  uint64_t requested_id_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_DOMAIN_H_
