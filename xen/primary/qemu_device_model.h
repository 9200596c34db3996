// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_QEMU_DEVICE_MODEL_H_
#define HAVEN_XEN_PRIMARY_QEMU_DEVICE_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "engine/control/time_limit.h"
#include "xen/base/device_model.h"
#include "xen/base/qmp_channel.h"

namespace haven {

// DeviceModel: the QEMU of a guest of this host, by its machine protocol. It saves into memory of
// this process, which it was handed once.
class QemuDeviceModel final : public DeviceModel {
 public:
  struct Options {
    std::string guest;  // For messages.
    // Stop() has it save its state.
    bool saves = true;
    // How long Save(), Run() and LogWrites() wait. They stand on the way of an epoch.
    absl::Duration patience = absl::Milliseconds(300);
  };

  // Connects to the QEMU that listens at `path` (QmpSocketPath). One that a dead process has left
  // stopped goes on, if `saves`. Errors of QmpChannel::Connect and Call; FailedPrecondition: it is
  // in a state in which it can not be protected, as one that waits for its own migration;
  // Internal: no memory or descriptor.
  static absl::StatusOr<std::unique_ptr<QemuDeviceModel>> Open(const std::string& path,
                                                               Options options,
                                                               const TimeLimit& limit);

  const std::string& version() const override { return version_; }
  void Stop() override;
  State Poll() override;
  int event_fd() const override { return channel_ == nullptr ? -1 : channel_->fd(); }
  absl::StatusOr<size_t> Save(std::span<std::byte> out) override;
  void Run() override;
  absl::Status LogWrites() override;

 private:
  // What was asked last; its answer is one that has this id.
  struct Asked {
    uint64_t id = 0;
    std::optional<absl::Status> answer;
  };

  QemuDeviceModel(std::unique_ptr<QmpChannel> channel, Options options)
      : options_(std::move(options)), channel_(std::move(channel)), version_(channel_->version()) {}

  absl::Status TakeMemory(const TimeLimit& limit);
  absl::Status MakeRunning(const TimeLimit& limit);
  // The command's length; it is written to the front of `text`.
  int BeginSave(std::span<char> text);
  int BeginLog(std::span<char> text);
  bool StillSaves();
  void Begin(Asked& asked) { asked = Asked{.id = next_id_++, .answer = std::nullopt}; }
  void Send(absl::string_view commands);
  void TakeAnswers();
  // Until `asked` is answered, or patience is over.
  absl::Status Await(const Asked& asked);
  void Lose(const absl::Status& cause);

  const Options options_;
  std::unique_ptr<QmpChannel> channel_;  // Until it is lost: closed, it announces nothing more.
  absl::Status lost_;
  const std::string version_;
  UniqueFd memory_;  // What QEMU saves into.
  // The same, opened a second time: QEMU takes only one that can not be read. It writes where this
  // one stands, as the two share it.
  UniqueFd written_;
  int64_t fdset_ = -1;

  uint64_t next_id_ = 1;
  Asked stop_, save_, cont_, log_;
  bool stopped_ = false;  // Stop() was called, and Run() was not since.
  bool knows_ = false;    // It runs unless stopped_: nobody else has left it stopped.
  bool logs_ = false;
  std::array<char, 512> text_;  // Commands are made in.
};

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_QEMU_DEVICE_MODEL_H_
