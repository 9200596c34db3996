// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/held_device_model.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "xen/backup/text_tail.h"
#include "xen/base/state.h"

namespace haven {
namespace {

// For what no event tells of.
constexpr int kBuildStepMs = 20;
constexpr int kPromotionStepMs = 5;

// Of one question to a QEMU that comes up, after which is seen whether the toolstack has ended.
constexpr absl::Duration kQuestionPatience = absl::Seconds(1);

// An ordinary state fits, so that writing it does not wait for QEMU's reading.
constexpr int kPipeBytes = 1 << 20;

constexpr size_t kLogBytes = 400;

absl::Status Failed(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

absl::Status ToolstackEnded(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat("the toolstack has ended before ", what));
}

// Whether the toolstack has written all of the empty state there.
bool HasEmptyState(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0 && S_ISREG(file.st_mode) &&
         file.st_size == off_t{kEmptyDeviceModelState.size()};
}

// Asks again as long as there is no answer, the toolstack lives and the time has not passed. `ask`
// is given the limit of one question.
template <typename Ask>
auto AskWhileBuilt(const TimeLimit& limit, const HeldDeviceModel::Ended& ended, const Ask& ask)
    -> decltype(ask(limit)) {
  for (;;) {
    auto answer = ask(TimeLimit(limit.Step(kQuestionPatience)));
    if (answer.ok() || !absl::IsDeadlineExceeded(answer.status())) return answer;
    if (ended()) {
      return ToolstackEnded(absl::StrCat("QEMU was up: ", answer.status().message()));
    }
    if (limit.Passed()) return answer;
  }
}

}  // namespace

absl::Status HeldDeviceModel::RemoveLeftFile(const DeviceModelFiles& files) {
  if (unlink(files.state_file.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return Failed(absl::StrCat("remove ", files.state_file));
}

absl::StatusOr<std::unique_ptr<HeldDeviceModel>> HeldDeviceModel::Hold(DeviceModelFiles files,
                                                                       const TimeLimit& limit,
                                                                       const Ended& ended) {
  while (!HasEmptyState(files.state_file)) {
    const std::string what = absl::StrCat("it has written ", files.state_file);
    if (ended()) return ToolstackEnded(what);
    if (limit.Passed()) {
      return absl::DeadlineExceededError(absl::StrCat("the time has passed before ", what));
    }
    poll(nullptr, 0, kBuildStepMs);
  }
  std::unique_ptr<HeldDeviceModel> held(new HeldDeviceModel(std::move(files)));
  HAVEN_RETURN_IF_ERROR(held->MakePipe());
  HAVEN_RETURN_IF_ERROR(held->ReplaceStateFile());
  return held;
}

absl::Status HeldDeviceModel::MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Failed("pipe");
  read_end_.reset(ends[0]);
  write_end_.reset(ends[1]);
  // Only the end that stays ours: QEMU waits for the other as it likes.
  HAVEN_CHECK_EQ(fcntl(write_end_.get(), F_SETFL, O_NONBLOCK), 0);
  // A smaller pipe only takes longer.
  fcntl(write_end_.get(), F_SETPIPE_SZ, kPipeBytes);
  link_ = absl::StrCat("/proc/", getpid(), "/fd/", read_end_.get());
  return absl::OkStatus();
}

absl::Status HeldDeviceModel::ReplaceStateFile() const {
  const std::string made = absl::StrCat(files_.state_file, ".haven");
  // One of a process that died here, for an earlier domain of this number.
  unlink(made.c_str());
  if (symlink(link_.c_str(), made.c_str()) != 0)
    return Failed(absl::StrCat("make the link ", made));
  if (rename(made.c_str(), files_.state_file.c_str()) == 0) return absl::OkStatus();
  absl::Status failed = Failed(absl::StrCat("rename ", made, " to ", files_.state_file));
  unlink(made.c_str());
  return failed;
}

HeldDeviceModel::~HeldDeviceModel() {
  // A toolstack that died has left the link, and a later one, for a domain of this number, would
  // write through it into whatever the descriptor is by then.
  std::array<char, 64> target;
  const ssize_t bytes = readlink(files_.state_file.c_str(), target.data(), target.size());
  if (bytes > 0 && absl::string_view(target.data(), static_cast<size_t>(bytes)) == link_) {
    unlink(files_.state_file.c_str());
  }
}

absl::Status HeldDeviceModel::Wake(const TimeLimit& limit, const Ended& ended) {
  HAVEN_CHECK(channel_ == nullptr);
  for (;;) {
    absl::StatusOr<std::unique_ptr<QmpChannel>> channel = AskWhileBuilt(
        limit, ended,
        [&](const TimeLimit& step) { return QmpChannel::Connect(files_.qmp_socket, step); });
    if (channel.ok()) {
      channel_ = *std::move(channel);
      break;
    }
    // Unavailable: it is not up yet, or not any more, which the toolstack notices; or that has
    // ended.
    if (!absl::IsUnavailable(channel.status())) return channel.status();
    if (ended()) return ToolstackEnded(absl::StrCat("QEMU was up: ", channel.status().message()));
    if (limit.Passed()) {
      return absl::DeadlineExceededError(
          absl::StrCat("QEMU does not come up: ", channel.status().message()));
    }
    poll(nullptr, 0, kBuildStepMs);
  }
  HAVEN_ASSIGN_OR_RETURN(
      const std::string state,
      AskWhileBuilt(limit, ended, [&](const TimeLimit& step) { return channel_->RunState(step); }));
  if (state != "inmigrate") {
    return absl::InternalError(
        absl::StrCat("QEMU is in run state \"", state, "\", must be waiting for its state"));
  }
  // It would announce its emulated NICs as soon as it has loaded them, before the register says
  // that the guest runs here.
  return AskWhileBuilt(limit, ended,
                       [&](const TimeLimit& step) {
                         return channel_->Call("migrate-set-parameters", R"({"announce-rounds":0})",
                                               step);
                       })
      .status();
}

void HeldDeviceModel::ToolstackIsReady() { read_end_.reset(); }

absl::Status HeldDeviceModel::Check() {
  HAVEN_CHECK(channel_ != nullptr);
  const absl::Status alive = channel_->Next().status();
  if (alive.ok()) return alive;
  return absl::AbortedError(
      absl::StrCat("the device model of the copy is lost: ", alive.message()));
}

absl::Status HeldDeviceModel::Give(std::span<const std::byte> state, const TimeLimit& limit) {
  HAVEN_CHECK(channel_ != nullptr && !read_end_);
  if (!write_end_) {
    return absl::InternalError("the device model was given a state before, and loads only one");
  }
  absl::Status given = Write(state, limit);
  // It has all that it will get.
  write_end_.reset();
  if (given.ok()) given = AwaitRunning(limit);
  if (given.ok()) return given;
  const UniqueFd log(open(files_.log.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return absl::InternalError(
      absl::StrCat("the device model does not go on with its state: ", given.message(),
                   ". The end of its log, ", files_.log, ": ", TextTail(log, kLogBytes)));
}

absl::Status HeldDeviceModel::Write(std::span<const std::byte> state,
                                    const TimeLimit& limit) const {
  while (!state.empty()) {
    const ssize_t written = write(write_end_.get(), state.data(), state.size());
    if (written > 0) {
      state = state.subspan(static_cast<size_t>(written));
    } else if (errno == EPIPE) {
      return absl::UnavailableError("QEMU has stopped reading it");
    } else if (errno == EAGAIN) {
      if (limit.Passed()) return absl::DeadlineExceededError("QEMU does not read it");
      pollfd room = {write_end_.get(), POLLOUT, 0};
      poll(&room, 1, limit.PollMs());
    } else if (errno != EINTR) {
      return Failed("write to QEMU");
    }
  }
  return absl::OkStatus();
}

absl::Status HeldDeviceModel::AwaitRunning(const TimeLimit& limit) {
  for (;;) {
    HAVEN_ASSIGN_OR_RETURN(const std::string state, channel_->RunState(limit));
    if (state == "running") return absl::OkStatus();
    if (state != "inmigrate") {
      return absl::InternalError(absl::StrCat("QEMU is in run state \"", state, "\""));
    }
    if (limit.Passed()) return absl::DeadlineExceededError("QEMU is still loading it");
    // It tells when it runs, and is asked again in case that it said so before it answered.
    pollfd told = {channel_->fd(), POLLIN, 0};
    poll(&told, 1, kPromotionStepMs);
  }
}

}  // namespace haven
