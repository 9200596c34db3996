// SPDX-License-Identifier: Apache-2.0
//
// The engine's part in the group's record: what it is about to do is written down before.
#ifndef HAVEN_ENGINE_CLI_RECORDED_DOMAIN_H_
#define HAVEN_ENGINE_CLI_RECORDED_DOMAIN_H_

#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/control/group_record.h"
#include "engine/primary/domain.h"

namespace haven {

// The phase in the record while an engine runs. Thread-safe; each call blocks for the disk.
class RecordedPhase {
 public:
  RecordedPhase(GroupDirectory directory, GroupRecord record)
      : directory_(std::move(directory)), record_(std::move(record)) {}

  // A session begins: from here on output may be held, and only the register's word opens it.
  absl::Status Protecting();
  // The end was asked for: whatever dies, the next guard finishes it. Nothing is saved for a copy
  // that never had a session: there is nothing to finish. True: it is written down since this call.
  absl::StatusOr<bool> Ending();
  // It was not asked for after all: the protection goes on.
  absl::Status NotEnding();

 private:
  absl::Status Save(GroupPhase phase);

  std::mutex mutex_;
  const GroupDirectory directory_;
  GroupRecord record_;
};

// A guest whose first session is written down before it begins, while the guest still runs: the log
// of dirty pages goes on before the guests are first stopped and their output is first held.
class RecordedDomain final : public Domain {
 public:
  RecordedDomain(Domain& inner, RecordedPhase& phase) : inner_(inner), phase_(phase) {}

  const DomainInfo& info() const override { return inner_.info(); }
  const GuestMemory& memory() const override { return inner_.memory(); }
  absl::Status EnableLogDirty() override;
  absl::Status FetchAndClearDirty(std::span<uint64_t> bitmap) override {
    return inner_.FetchAndClearDirty(bitmap);
  }
  absl::Status FetchDirty(std::span<uint64_t> bitmap) override { return inner_.FetchDirty(bitmap); }
  absl::StatusOr<uint64_t> CountDirty() override { return inner_.CountDirty(); }
  void DisableLogDirty() override { inner_.DisableLogDirty(); }
  absl::StatusOr<size_t> CaptureState(std::span<std::byte> out) override {
    return inner_.CaptureState(out);
  }
  size_t max_state_bytes() const override { return inner_.max_state_bytes(); }
  DomainEnd End() override { return inner_.End(); }
  absl::Status CheckMemory() override { return inner_.CheckMemory(); }
  absl::Status CheckDevices() override { return inner_.CheckDevices(); }
  absl::Status LetRun() override { return inner_.LetRun(); }
  absl::Status Destroy() override { return inner_.Destroy(); }

 private:
  Domain& inner_;
  RecordedPhase& phase_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_RECORDED_DOMAIN_H_
