// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/qemu_device_model.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "xen/base/state.h"

namespace haven {

namespace {

using Json = nlohmann::json;

absl::Status Failed(const char* what) {
  return absl::InternalError(absl::ErrnoToStatus(errno, what).message());
}

// The value at `at` of an answer, or nothing.
Json ValueAt(const std::string& answer, const char* at) {
  const Json json = Json::parse(answer, nullptr, /*allow_exceptions=*/false);
  const Json::json_pointer pointer(at);
  return json.is_object() && json.contains(pointer) ? json[pointer] : Json();
}

}  // namespace

absl::StatusOr<std::unique_ptr<QemuDeviceModel>> QemuDeviceModel::Open(const std::string& path,
                                                                       Options options,
                                                                       const TimeLimit& limit) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<QmpChannel> channel, QmpChannel::Connect(path, limit));
  auto model =
      std::unique_ptr<QemuDeviceModel>(new QemuDeviceModel(std::move(channel), std::move(options)));
  if (!model->options_.saves) return model;
  HAVEN_RETURN_IF_ERROR(model->MakeRunning(limit));
  HAVEN_RETURN_IF_ERROR(model->TakeMemory(limit));
  return model;
}

absl::Status QemuDeviceModel::MakeRunning(const TimeLimit& limit) {
  HAVEN_ASSIGN_OR_RETURN(std::string state, channel_->RunState(limit));
  if (state == "paused") {
    HAVEN_RETURN_IF_ERROR(channel_->Call("cont", "", limit).status());
    HAVEN_ASSIGN_OR_RETURN(state, channel_->RunState(limit));
  }
  knows_ = state == "running";
  if (knows_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("its device model (QEMU) is in run state \"", state, "\", must be \"running\""));
}

absl::Status QemuDeviceModel::TakeMemory(const TimeLimit& limit) {
  memory_ = UniqueFd(memfd_create("haven-device-model", MFD_CLOEXEC));
  if (!memory_) return Failed("make memory for a device model's state");
  written_ =
      UniqueFd(open(absl::StrCat("/proc/self/fd/", memory_.get()).c_str(), O_WRONLY | O_CLOEXEC));
  if (!written_) return Failed("open memory for a device model's state");
  HAVEN_ASSIGN_OR_RETURN(const std::string answer,
                         channel_->Call("add-fd", "", limit, written_.get()));
  const Json fdset = ValueAt(answer, "/return/fdset-id");
  if (!fdset.is_number_unsigned()) {
    return absl::InternalError(absl::StrCat("QEMU does not say where it has put a file: ", answer));
  }
  fdset_ = fdset.get<uint32_t>();
  return absl::OkStatus();
}

void QemuDeviceModel::Lose(const absl::Status& cause) {
  if (!lost_.ok()) return;
  lost_ = absl::UnavailableError(
      absl::StrCat("guest ", options_.guest,
                   ": its device model (QEMU) is lost to this process: ", cause.message()));
  channel_.reset();
  HAVEN_LOG(kError, "xen") << std::string(lost_.message());
}

void QemuDeviceModel::Send(absl::string_view commands) {
  if (!lost_.ok()) return;
  const absl::Status sent = channel_->Send(commands);
  if (!sent.ok()) Lose(sent);
}

void QemuDeviceModel::TakeAnswers() {
  while (lost_.ok()) {
    const absl::StatusOr<std::optional<QmpChannel::Answer>> answer = channel_->Next();
    if (!answer.ok()) return Lose(answer.status());
    if (!answer->has_value()) return;
    for (Asked* const asked : {&stop_, &save_, &cont_, &log_}) {
      if (asked->id != (*answer)->id) continue;
      asked->answer = (*answer)->ok ? absl::OkStatus()
                                    : absl::InternalError(absl::StrCat(
                                          "guest ", options_.guest,
                                          ": its device model (QEMU) refuses: ", (*answer)->text));
    }
  }
}

absl::Status QemuDeviceModel::Await(const Asked& asked) {
  const TimeLimit limit(options_.patience);
  while (true) {
    TakeAnswers();
    if (asked.answer.has_value()) return *asked.answer;
    HAVEN_RETURN_IF_ERROR(lost_);
    if (limit.Passed()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "guest ", options_.guest, ": its device model (QEMU) does not answer within ",
          absl::ToInt64Milliseconds(options_.patience), " ms"));
    }
    pollfd waited = {.fd = channel_->fd(), .events = POLLIN, .revents = 0};
    poll(&waited, 1, limit.PollMs());
  }
}

// Of an epoch that was given up, since it took so long.
bool QemuDeviceModel::StillSaves() {
  TakeAnswers();
  return lost_.ok() && save_.id != 0 && !save_.answer.has_value();
}

void QemuDeviceModel::Stop() {
  // It has one place to save to: what it writes there late must not pass for this epoch's.
  if (stopped_ || StillSaves()) return;
  stopped_ = true;
  Begin(stop_);
  // First `stop`: saving by itself starts QEMU again if it ran.
  int bytes =
      absl::SNPrintF(text_.data(), text_.size(), "{\"execute\":\"stop\",\"id\":%u}\r\n", stop_.id);
  if (options_.saves) bytes += BeginSave(std::span(text_).subspan(static_cast<size_t>(bytes)));
  Send(absl::string_view(text_.data(), static_cast<size_t>(bytes)));
}

int QemuDeviceModel::BeginSave(std::span<char> text) {
  Begin(save_);
  // What the last epoch's has written is not to stay behind a shorter one.
  if (ftruncate(written_.get(), 0) != 0 || lseek(written_.get(), 0, SEEK_SET) != 0) {
    Lose(Failed("empty the memory for a device model's state"));
    return 0;
  }
  return absl::SNPrintF(
      text.data(), text.size(),
      "{\"execute\":\"xen-save-devices-state\",\"arguments\":{\"filename\":\"/dev/fdset/%d\","
      "\"live\":false},\"id\":%u}\r\n",
      fdset_, save_.id);
}

DeviceModel::State QemuDeviceModel::Poll() {
  TakeAnswers();
  if (!lost_.ok()) return State::kLost;
  if (!stopped_) return State::kRunning;
  // One that refuses to stop may save all the same: Save() looks at both answers.
  return stop_.answer.has_value() ? State::kStopped : State::kStopping;
}

absl::StatusOr<size_t> QemuDeviceModel::Save(std::span<std::byte> out) {
  HAVEN_RETURN_IF_ERROR(lost_);
  HAVEN_CHECK(stopped_ && options_.saves);
  HAVEN_RETURN_IF_ERROR(Await(stop_));
  HAVEN_RETURN_IF_ERROR(Await(save_));
  struct stat info = {};
  if (fstat(memory_.get(), &info) != 0) return Failed("look at a device model's state");
  const size_t bytes = static_cast<size_t>(info.st_size);
  if (bytes > out.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("guest ", options_.guest, ": the state of its device model has ", bytes,
                     " bytes, of ", out.size(), " that there is room for"));
  }
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        pread(memory_.get(), out.data() + done, bytes - done, static_cast<off_t>(done));
    if (got <= 0) return Failed("read a device model's state");
    done += static_cast<size_t>(got);
  }
  const absl::Status sound = CheckDeviceModelState(out.first(bytes));
  if (sound.ok()) return bytes;
  return absl::InternalError(absl::StrCat("guest ", options_.guest, ": ", sound.message()));
}

void QemuDeviceModel::Run() {
  if (knows_ && !stopped_) return;
  stopped_ = false;
  Begin(cont_);
  int bytes =
      absl::SNPrintF(text_.data(), text_.size(), "{\"execute\":\"cont\",\"id\":%u}\r\n", cont_.id);
  if (logs_) bytes += BeginLog(std::span(text_).subspan(static_cast<size_t>(bytes)));
  Send(absl::string_view(text_.data(), static_cast<size_t>(bytes)));
  const absl::Status runs = Await(cont_);
  knows_ = runs.ok();
  if (!runs.ok()) {
    HAVEN_LOG(kWarning, "xen") << "the guest goes on, but not its emulated devices: "
                               << std::string(runs.message());
  }
}

absl::Status QemuDeviceModel::LogWrites() {
  logs_ = true;
  HAVEN_RETURN_IF_ERROR(lost_);
  const int bytes = BeginLog(text_);
  Send(absl::string_view(text_.data(), static_cast<size_t>(bytes)));
  return Await(log_);
}

int QemuDeviceModel::BeginLog(std::span<char> text) {
  Begin(log_);
  return absl::SNPrintF(text.data(), text.size(),
                        "{\"execute\":\"xen-set-global-dirty-log\","
                        "\"arguments\":{\"enable\":true},\"id\":%u}\r\n",
                        log_.id);
}

}  // namespace haven
