// SPDX-License-Identifier: Apache-2.0
//
// The small process that outlives a group's engines (DESIGN.md section 3).
#ifndef HAVEN_ENGINE_CONTROL_GUARD_H_
#define HAVEN_ENGINE_CONTROL_GUARD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/control/engine_child.h"
#include "engine/control/group_record.h"
#include "engine/control/guest_set.h"
#include "engine/control/poll_set.h"
#include "engine/control/system_ids.h"
#include "engine/control/thread_arbiter_port.h"
#include "engine/membership/recovery.h"

namespace haven {

struct GuardOptions {
  // The program and arguments that run an engine; "--group", "--directory" and "--register" follow.
  std::vector<std::string> engine_command;
  int64_t hang_ns =
      3 * kNsPerSecond;  // An engine that has not vouched for itself for so long is killed.
  int64_t start_ns = 60 * kNsPerSecond;   // The same before it first did.
  int64_t backoff_ns = 1 * kNsPerSecond;  // Between an engine that died young and the next.
};

// How a guard's work ended.
enum class GuardEnd : uint8_t {
  kUnprotected,  // As asked; the guests run on with open output.
  kGuestEnded,   // A guest ended by itself.
  kDestroyed,    // Another copy runs; the one here is gone.
  kRefused,      // The group belongs to another copy; nothing was touched.
  kStopped,      // By a signal: the record and whatever is held stay for the next guard.
};

// Starts the engine, starts it again when it dies, and decides with the arbiter what becomes of the
// copy on this host. Whatever dies, output that is held stays held until the register's word. One
// thread; Run() blocks until the end.
class Guard {
 public:
  // The group's record exists and its lock is held by the caller. `stop_fd` becomes readable when
  // the guard is to stop.
  Guard(GuardOptions options, GroupDirectory directory, GroupRecord record, AttachGuests attach,
        std::unique_ptr<ThreadArbiterPort> arbiter, int stop_fd);

  // Errors only of the beginning: what can not be helped by trying again.
  absl::StatusOr<GuardEnd> Run();

 private:
  // The copy between two engines.
  class Keeper;
  enum class Next : uint8_t { kEngine, kRecover, kRecoverDeposed, kEnd };

  absl::StatusOr<Next> RunEngine();
  absl::StatusOr<Next> AfterEngine(int exit_code, bool died_young);
  absl::StatusOr<Next> Recover(bool deposed);
  absl::StatusOr<GuestSet> Attach();
  Next OpenAndGoOn(GuestSet& guests, const Register& value);
  absl::Status EndProtection(GuardEnd end);
  void NoteAnswer(const RegisterAnswer& answer);
  bool Pause(int64_t ns);
  absl::Status SavePhase(GroupPhase phase);

  const GuardOptions options_;
  const GroupDirectory directory_;
  GroupRecord record_;
  const AttachGuests attach_;
  const std::unique_ptr<ThreadArbiterPort> arbiter_;
  const int stop_fd_;
  SystemIds ids_;
  std::optional<Register> register_;
  GuardEnd end_ = GuardEnd::kStopped;
  bool stopped_ = false;
  std::string last_cause_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GUARD_H_
