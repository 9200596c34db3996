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
#include "engine/membership/register.h"

namespace haven {

struct GuardOptions {
  // The program and arguments that run an engine; "--group", "--directory" and "--register" follow.
  std::vector<std::string> engine_command;
  int64_t hang_ns =
      3 * kNsPerSecond;  // An engine that has not vouched for itself for so long is killed.
  int64_t start_ns = 60 * kNsPerSecond;   // The same before it first did.
  int64_t backoff_ns = 1 * kNsPerSecond;  // Between an engine that died young and the next.
  int64_t retry_ns = 100 * kNsPerMs;      // Between attempts at the output, or at a held guest.
  int64_t tell_ns = 1 * kNsPerSecond;     // A guest that can not be had for so long is named.
  // For guests that a stopped guard lets run again.
  int64_t stop_ns = 2 * kNsPerSecond;
};

// How a guard's work ended.
enum class GuardEnd : uint8_t {
  kUnprotected,  // As asked; the guests run on with open output.
  kGuestEnded,   // A guest ended by itself; those that are left run on with open output.
  kDestroyed,    // Another copy runs; the one here is gone.
  kRefused,      // The group belongs to another copy; nothing was touched.
  kStopped,      // By a signal: the record and whatever is held stay for the next guard.
};

// What an operator can do about a group whose register names a copy on another node.
std::string OwnedElsewhere(const Register& value);

// Starts the engine, starts it again when it dies, and decides with the arbiter what becomes of the
// copy on this host. Whatever dies, output that is held stays held until the register's word. One
// thread; Run() blocks until the end.
class Guard {
 public:
  // The group's record exists and its lock is held by the caller. `stop_fd` becomes readable when
  // the guard is to stop.
  Guard(GuardOptions options, GroupDirectory directory, GroupRecord record, AttachGuests attach,
        std::unique_ptr<ThreadArbiterPort> arbiter, int stop_fd);

  // Errors: what can not be helped by trying again. InvalidArgument: a guest of an unknown kind, or
  // a group name that the arbiter does not take; FailedPrecondition: the engine could not begin; or
  // the record can not be written. Output stays as it is then, and so does the record but where
  // nothing was protected yet.
  absl::StatusOr<GuardEnd> Run();

 private:
  // The copy between two engines.
  class Keeper;
  enum class Next : uint8_t { kEngine, kRecover, kRecoverDeposed, kEnd };

  absl::StatusOr<Next> RunEngine();
  // Until the engine is dead (true), or the guard is to stop and the engine does not die.
  bool AwaitEngine(EngineChild& engine, const AlivePage& page, int64_t started_ns);
  absl::StatusOr<Next> AfterEngine(int exit_code);
  absl::Status ReloadRecord();

  absl::StatusOr<GuestSet> Attach();
  void NoteAttach(const absl::Status& status);
  void NoteEnded(const GuestSet& guests);
  void ResumeOnTheWayOut();
  absl::StatusOr<Next> Recover(bool deposed);
  absl::Status Drive(Recovery& recovery, Keeper& keeper, const GuestSet& guests);
  absl::StatusOr<Next> NothingLeft(const absl::Status& cause);
  absl::StatusOr<Next> EndProtection(GuardEnd end);
  bool AwaitGuests(const GuestSet& guests);
  absl::StatusOr<Next> RemoveRecord(GuardEnd end);
  absl::StatusOr<Next> OpenAndGoOn(GuestSet guests);
  absl::Status NoteAnswer(const RegisterAnswer& answer);
  // A trouble that lasts is told when it changes.
  void NoteOutput(const absl::Status& status);
  // Waits, or until the guard is to stop: false.
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
  // Of the last engine. Guests are resumed and the arbiter is asked at once; the next one waits.
  bool died_young_ = false;
  // The troubles that were told last.
  std::string arbiter_trouble_;
  std::string output_trouble_;
  std::string attach_trouble_;
  size_t ended_guests_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_GUARD_H_
