// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BACKUP_HELD_DEVICE_MODEL_H_
#define HAVEN_XEN_BACKUP_HELD_DEVICE_MODEL_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/control/time_limit.h"
#include "xen/base/qmp_channel.h"

namespace haven {

// Where the toolstack and a copy's QEMU have what is theirs.
struct DeviceModelFiles {
  std::string state_file;  // The toolstack writes it out of the stream, and QEMU loads it.
  std::string qmp_socket;  // QmpSocketPath().
  std::string log;         // QEMU's messages.
};

// A copy's QEMU that waits for its state. The toolstack starts it with the state file of the
// stream, as for any guest that it restores, and QEMU runs as soon as it has loaded that; it can
// load only once. So the file is replaced by a pipe of ours: QEMU waits for its first byte (run
// state "inmigrate": no packet, no lock, no write to the guest's memory) until the state of the
// epoch to promote is written into it.
// QEMU spins on a pipe whose writer has died until the toolstack destroys it: so whoever drops this
// object before Give() destroys the copy next. SIGPIPE is ignored in this process. One thread.
class HeldDeviceModel {
 public:
  // Whether the toolstack that builds the copy has ended, so that nothing more is to be expected of
  // it.
  using Ended = std::function<bool()>;

  // Removes what an earlier domain of this number has left in the state file's place: the toolstack
  // would write through a link, and Hold() would take a file for this copy's. Before the toolstack
  // gets the empty state. Internal: it can not be removed.
  static absl::Status RemoveLeftFile(const DeviceModelFiles& files);

  // Waits until the toolstack has written the empty state (kEmptyDeviceModelState) to the state
  // file, and puts a link to a pipe in its place. It must not have got the stream's END yet, as it
  // then opens that file. Not a FIFO: opening that would hang the toolstack for ever if we died
  // now; a link to nowhere is a clean error. DeadlineExceeded; Unavailable: the toolstack has
  // ended; Internal: a call of the kernel failed.
  static absl::StatusOr<std::unique_ptr<HeldDeviceModel>> Hold(DeviceModelFiles files,
                                                               const TimeLimit& limit,
                                                               const Ended& ended);
  // Closes all.
  ~HeldDeviceModel();
  HeldDeviceModel(const HeldDeviceModel&) = delete;
  HeldDeviceModel& operator=(const HeldDeviceModel&) = delete;

  // Waits until QEMU has come up and says that it waits for its state, which it does not tell the
  // toolstack; and has it announce nothing by itself later. Once. DeadlineExceeded; Unavailable:
  // the toolstack has ended, or QEMU hung up; Internal: it does not wait, or refuses to say so;
  // InvalidArgument: what it says is not its protocol.
  absl::Status Wake(const TimeLimit& limit, const Ended& ended);

  // QEMU's, as QmpChannel::version(). After Wake().
  const std::string& version() const { return channel_->version(); }

  // The toolstack has finished the copy and so has taken the link away: QEMU is the pipe's only
  // reader from here on, and its death is seen by whoever writes.
  void ToolstackIsReady();

  // Whether it was given no state yet.
  bool waits() const { return write_end_.valid(); }

  // OK while QEMU lives. Aborted: it has hung up, for good. After Wake(). Does not block, and does
  // not allocate if OK.
  absl::Status Check();

  // Hands over the state of all devices (CheckDeviceModelState) and waits until QEMU has loaded it
  // and runs, which lets the guest's memory be written. Once, after ToolstackIsReady(). Internal:
  // it does not run, with the cause and the end of its log; or this is not the first call.
  absl::Status Give(std::span<const std::byte> state, const TimeLimit& limit);

 private:
  explicit HeldDeviceModel(DeviceModelFiles files) : files_(std::move(files)) {}

  absl::Status MakePipe();
  absl::Status ReplaceStateFile() const;
  absl::Status Write(std::span<const std::byte> state, const TimeLimit& limit) const;
  absl::Status AwaitRunning(const TimeLimit& limit);

  const DeviceModelFiles files_;
  std::string link_;  // What the state file is a link to.
  UniqueFd read_end_;
  UniqueFd write_end_;  // Until Give().
  std::unique_ptr<QmpChannel> channel_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_HELD_DEVICE_MODEL_H_
