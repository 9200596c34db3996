// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_DEVICE_MODEL_H_
#define HAVEN_XEN_BASE_DEVICE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace haven {

// The process in the first domain that emulates the devices of a running HVM guest (QEMU). It has a
// state of its own, which belongs to the guest's, and writes to the guest's memory: in an epoch it
// is stopped after the guest and before the last dirty pages are fetched, and goes on before the
// guest does, whose first instructions after a suspend ask it to unplug emulated devices. It must
// not stand still while the guest runs: accesses to its devices would go nowhere. One thread.
class DeviceModel {
 public:
  virtual ~DeviceModel() = default;

  // Version and package, as XenDescription::device_model has them.
  virtual const std::string& version() const = 0;

  enum class State : uint8_t {
    kRunning,   // Or not known yet.
    kStopping,  // Asked to stop.
    kStopped,   // It writes nothing any more; its state is on its way.
    kLost,      // It does not answer, and will not: Save() tells why.
  };

  // Asks it to stop, and to save its state if that is wanted of it at all. Returns at once.
  // Idempotent until Run(). Does nothing yet, and Poll() says kRunning, while it still saves what
  // it was asked to before that: to be called again when Poll() may have changed.
  virtual void Stop() = 0;
  // Takes in what it has answered. Does not block.
  virtual State Poll() = 0;
  // Readable when Poll() may have changed.
  virtual int event_fd() const = 0;

  // Its state since Stop(), written to the front of `out`; its size, at most kMaxDeviceModelBytes.
  // Waits for it, for a bounded time. Allocates nothing if OK. ResourceExhausted: `out` is too
  // small; Unavailable: it is lost; DeadlineExceeded; Internal: it can not save, in its words, or
  // what it saved is none (CheckDeviceModelState).
  virtual absl::StatusOr<size_t> Save(std::span<std::byte> out) = 0;

  // Lets it go on, and waits until it does, for a bounded time: a guest whose device model does not
  // answer runs all the same, and that is logged. Also one that a process has stopped which has
  // died since. Idempotent.
  virtual void Run() = 0;

  // What it writes to the guest's memory is to be logged as dirty, from now on and by every further
  // Run(): `xl save` ends with taking it back. Never taken back by us: without a log that costs
  // nothing, and QEMU ends itself when it is told so once too often. Waits as Run(). Unavailable,
  // DeadlineExceeded, Internal as above.
  virtual absl::Status LogWrites() = 0;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_DEVICE_MODEL_H_
