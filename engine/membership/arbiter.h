// SPDX-License-Identifier: Apache-2.0
//
// The seam to whoever keeps the register (DESIGN.md section 7).
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/membership/register.h"

namespace haven {

// One change asked of the register. `desired.stamp` is the request's id.
struct RegisterRequest {
  // The whole value the caller believes in; nullopt: the register must not exist yet.
  std::optional<Register> expected;
  Register desired;
};

enum class Verdict : uint8_t {
  kGranted = 0,  // The register holds `desired` (now, or since an earlier try of this request).
  // It holds something else, or an operator said no (`manual`, where it may then still hold what
  // the request expects). This request will not be carried out any more; an earlier try of it may
  // have been, and its value replaced since: `current` tells where things stand.
  kDenied = 1,
  kUnknown = 2,  // No answer. The change may have happened or may still happen: assume the worse.
};

struct RegisterAnswer {
  Verdict verdict = Verdict::kUnknown;
  // The register as the arbiter last saw it; nullopt if it does not exist (or, with kUnknown, was
  // not seen).
  std::optional<Register> current;
  // With kUnknown: why, and what to do.
  absl::Status cause;
};

// Keeps one durable register per group, changed only by compare-and-set. Implementations: `etcd`,
// `exec`, `file`, `manual`; the simulation has its own. All calls block up to `timeout` and are
// made from a thread of their own, never from the epoch loop. Implementations are thread-safe.
class Arbiter {
 public:
  virtual ~Arbiter() = default;

  // Reads the register. kGranted: `current` is its value, nullopt if it does not exist.
  // kUnknown: it could not be read. Never kDenied.
  virtual RegisterAnswer Read(absl::string_view group, absl::Duration timeout) = 0;

  // Asks for a change. Repeating a request whose answer was kUnknown is safe and is how it is
  // resolved: if `current` carries the request's stamp the answer is kGranted.
  virtual RegisterAnswer CompareAndSet(absl::string_view group, const RegisterRequest& request,
                                       absl::Duration timeout) = 0;

  // How an operator names it, for messages: "etcd:127.0.0.1:2379", "file:/shared/haven", ...
  virtual std::string Describe() const = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_H_
