// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_THREAD_ARBITER_PORT_H_
#define HAVEN_ENGINE_CONTROL_THREAD_ARBITER_PORT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/membership/arbiter_thread.h"
#include "engine/membership/register_client.h"

namespace haven {

// Carries one group's requests to an arbiter by way of an ArbiterThread. For one thread.
class ThreadArbiterPort final : public ArbiterPort {
 public:
  // What the arbiter said last, for the status.
  struct LastAnswer {
    bool any = false;
    Verdict verdict = Verdict::kUnknown;
    absl::Status cause;
    int64_t at_ns = 0;  // Of the system's monotonic clock.
  };

  // `timeout`: of one call. Errors of ArbiterThread::Start.
  static absl::StatusOr<std::unique_ptr<ThreadArbiterPort>> Create(std::shared_ptr<Arbiter> arbiter,
                                                                   std::string group,
                                                                   absl::Duration timeout);

  void SubmitRead() override;
  void SubmitChange(const RegisterRequest& request) override;

  // The next answer. The caller hands it to its state machine before it calls again.
  std::optional<RegisterAnswer> Next();

  // Readable when Next() has one.
  int fd() const { return thread_->fd(); }
  // Next() has one that no descriptor announces.
  bool ready() const { return refused_.has_value(); }

  const LastAnswer& last_answer() const { return last_; }
  const std::string& name() const { return name_; }

 private:
  ThreadArbiterPort(std::unique_ptr<ArbiterThread> thread, std::string name, std::string group,
                    absl::Duration timeout);

  void Submitted(const absl::Status& status);

  const std::unique_ptr<ArbiterThread> thread_;
  const std::string name_;
  const std::string group_;
  const absl::Duration timeout_;
  uint64_t last_id_ = 0;
  std::optional<absl::Status> refused_;  // A call that the thread did not take.
  LastAnswer last_;
};

// "granted", "denied", "unknown".
const char* VerdictName(Verdict verdict);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_THREAD_ARBITER_PORT_H_
