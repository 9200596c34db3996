// SPDX-License-Identifier: Apache-2.0
//
// One side's dealings with the arbiter: at most one request at a time, repeated until answered.
#ifndef HAVEN_ENGINE_MEMBERSHIP_REGISTER_CLIENT_H_
#define HAVEN_ENGINE_MEMBERSHIP_REGISTER_CLIENT_H_

#include <cstdint>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "engine/membership/arbiter.h"
#include "engine/membership/register.h"

namespace haven {

// No deadline.
inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// Carries requests to the arbiter without blocking. Exactly one answer comes back for each call, be
// it kUnknown when the time for it has passed.
class ArbiterPort {
 public:
  virtual ~ArbiterPort() = default;
  virtual void SubmitRead() = 0;
  virtual void SubmitChange(const RegisterRequest& request) = 0;
};

// Makes request ids and session ids: random in production, seeded in the simulation. Never 0, never
// the same twice.
class IdSource {
 public:
  virtual ~IdSource() = default;
  virtual uint64_t NextId() = 0;
};

// What a request is for.
enum class RegisterPurpose : uint8_t {
  kNothing,
  kRead,
  kCreate,
  kPromotable,
  kSolo,
  kNone,
  kPromote,
  kRunning,
  kHandBack,
};

// A state machine without I/O. Not thread-safe.
//
// A change whose answer is unknown may have happened or may still happen, so nothing else is asked
// until it is resolved, and it is repeated with the same id: the arbiter's compare-and-set of the
// whole value, stamp included, makes the repetition harmless (DESIGN.md section 7).
class RegisterClient {
 public:
  // `port` and `ids` outlive this object. An unanswered request is repeated `retry_ns` after its
  // kUnknown.
  RegisterClient(ArbiterPort& port, IdSource& ids, int64_t retry_ns)
      : port_(port), ids_(ids), retry_ns_(retry_ns) {}

  // A request is under way.
  bool busy() const { return purpose_ != RegisterPurpose::kNothing; }
  RegisterPurpose purpose() const { return purpose_; }

  // The last value seen in an answer; nullopt: never seen, or seen not to exist.
  const std::optional<Register>& known() const { return known_; }

  // True while a change has been asked for that may or may not have happened.
  bool change_pending() const { return busy() && purpose_ != RegisterPurpose::kRead; }

  // When the running request was first made, and what the last unanswered try said.
  int64_t asked_ns() const { return asked_ns_; }
  const absl::Status& last_cause() const { return last_cause_; }

  // Takes over a value that another request of this process was granted.
  void Adopt(const Register& value) { known_ = value; }

  // Starts a read. A running read goes on; it is an error to read while a change is pending.
  void Read(int64_t now_ns);

  // Starts a change; a running read is given up. `desired.stamp` is filled in here.
  void Change(RegisterPurpose purpose, const std::optional<Register>& expected, Register desired,
              int64_t now_ns);

  struct Outcome {
    RegisterPurpose purpose = RegisterPurpose::kNothing;
    Verdict verdict = Verdict::kUnknown;  // kGranted or kDenied.
    std::optional<Register> current;
  };

  // Takes the answer to the last Submit. Returns the outcome once the request is resolved.
  std::optional<Outcome> OnAnswer(const RegisterAnswer& answer, int64_t now_ns);

  // Repeats what is due.
  void OnTick(int64_t now_ns);
  int64_t NextWakeNs() const { return retry_at_ns_; }

 private:
  void Submit();

  ArbiterPort& port_;
  IdSource& ids_;
  const int64_t retry_ns_;

  RegisterPurpose purpose_ = RegisterPurpose::kNothing;
  RegisterRequest request_;
  std::optional<Register> known_;
  absl::Status last_cause_;
  int64_t asked_ns_ = 0;
  int64_t retry_at_ns_ = kNever;
  bool in_flight_ = false;
  // The answer in flight belongs to a read that was given up for a change.
  bool discard_answer_ = false;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_REGISTER_CLIENT_H_
