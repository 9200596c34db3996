// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/qemu_device_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/time_limit.h"
#include "xen/base/fake_qemu_testing.h"
#include "xen/base/formats_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using State = DeviceModel::State;

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// QEMU as far as an epoch sees it: it saves into the descriptor that it was handed, where that
// stands, and leaves it open.
class QemuDeviceModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    qemu_.emplace(folder_ / "qmp");
    qemu_->On("query-status", [this](const nlohmann::json& command, int) {
      return FakeQemu::Return(command,
                              absl::StrCat(R"({"running": false, "status": ")", status_, R"("})"));
    });
    qemu_->On("add-fd", [this](const nlohmann::json& command, int fd) {
      saves_to_ = fd;
      return FakeQemu::Return(command, R"({"fd": 25, "fdset-id": 3})");
    });
    qemu_->On("stop", [this](const nlohmann::json& command, int) {
      status_ = "paused";
      return "{\"timestamp\": {}, \"event\": \"STOP\"}\r\n" + FakeQemu::Return(command);
    });
    qemu_->On("cont", [this](const nlohmann::json& command, int) {
      if (!goes_on_) return std::string();
      status_ = "running";
      return "{\"event\": \"RESUME\"}\r\n" + FakeQemu::Return(command);
    });
    qemu_->On("xen-set-global-dirty-log", [this](const nlohmann::json& command, int) {
      const bool on = command["arguments"]["enable"].get<bool>();
      if (!on && (logs_.empty() || !logs_.back())) qemu_->HangUp();  // It ends itself.
      logs_.push_back(on);
      return FakeQemu::Return(command);
    });
    qemu_->On("xen-save-devices-state", [this](const nlohmann::json& command, int) {
      EXPECT_EQ(status_, "paused") << "it would start by itself after this";
      EXPECT_EQ(command["arguments"],
                nlohmann::json::parse(R"({"filename": "/dev/fdset/3", "live": false})"));
      if (!refusal_.empty()) return FakeQemu::Error(command, refusal_);
      if (saves_) {
        EXPECT_EQ(write(saves_to_, saved_.data(), saved_.size()),
                  static_cast<ssize_t>(saved_.size()));
      }
      return saves_ ? FakeQemu::Return(command) : std::string();
    });
  }
  void TearDown() override {
    model_.reset();
    qemu_.reset();
  }

  absl::Status Open(bool saves = true, absl::Duration patience = absl::Seconds(20)) {
    auto model = QemuDeviceModel::Open(folder_ / "qmp",
                                       {.guest = "g1", .saves = saves, .patience = patience},
                                       TimeLimit(absl::Seconds(20)));
    if (model.ok()) model_ = *std::move(model);
    return model.status();
  }
  // Until it is another one than kStopping.
  State Settled() {
    State now = model_->Poll();
    while (now == State::kStopping) {
      pollfd waited = {.fd = model_->event_fd(), .events = POLLIN, .revents = 0};
      poll(&waited, 1, 20'000);
      now = model_->Poll();
    }
    return now;
  }

  const ShortFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  std::optional<FakeQemu> qemu_;
  // Of the fake: set while nothing is under way.
  std::string status_ = "running";
  int saves_to_ = -1;
  bool saves_ = true;
  bool goes_on_ = true;
  std::string refusal_;
  std::vector<std::byte> saved_ = FakeDeviceModelState();
  std::vector<bool> logs_;

  std::unique_ptr<QemuDeviceModel> model_;
  std::vector<std::byte> room_ = std::vector<std::byte>(kMaxDeviceModelBytes);
};

TEST_F(QemuDeviceModelTest, StopsSavesAndGoesOnEpochByEpoch) {
  ASSERT_TRUE(Open().ok());
  EXPECT_THAT(model_->version(), HasSubstr("7.2.22 Debian"));
  EXPECT_EQ(model_->Poll(), State::kRunning);
  // The second is shorter, and nothing of the first is behind it.
  for (const size_t bytes : {5000u, 9u, 70'000u}) {
    saved_ = FakeDeviceModelState(bytes);
    model_->Stop();
    model_->Stop();
    EXPECT_EQ(Settled(), State::kStopped);
    for (int look = 0; look < 2; ++look) {
      const absl::StatusOr<size_t> saved = model_->Save(room_);
      ASSERT_TRUE(saved.ok()) << saved.status();
      EXPECT_EQ(Text(std::span(room_).first(*saved)), Text(saved_));
    }
    model_->Run();
    EXPECT_EQ(status_, "running") << "it is waited for";
    EXPECT_EQ(model_->Poll(), State::kRunning);
  }
  model_->Run();
  EXPECT_THAT(qemu_->commands(),
              ElementsAre("qmp_capabilities", "query-status", "add-fd", "stop",
                          "xen-save-devices-state", "cont", "stop", "xen-save-devices-state",
                          "cont", "stop", "xen-save-devices-state", "cont"));
}

TEST_F(QemuDeviceModelTest, LoggingIsSaidAgainEachTimeItGoesOn) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(model_->LogWrites().ok());
  model_->Stop();
  ASSERT_TRUE(model_->Save(room_).ok());
  model_->Run();
  ASSERT_TRUE(model_->LogWrites().ok());
  EXPECT_EQ(logs_, (std::vector<bool>{true, true, true}));
}

TEST_F(QemuDeviceModelTest, OneThatADeadProcessHasStoppedGoesOn) {
  status_ = "paused";
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(status_, "running");
}

TEST_F(QemuDeviceModelTest, OneThatWaitsForAMigrationIsNotProtected) {
  status_ = "inmigrate";
  const absl::Status opened = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(opened)) << opened;
  EXPECT_THAT(std::string(opened.message()), HasSubstr("inmigrate"));
}

TEST_F(QemuDeviceModelTest, WhoSavesNothingLetsItGoOnOnceAndStopsIt) {
  status_ = "paused";
  ASSERT_TRUE(Open(/*saves=*/false).ok());
  model_->Run();
  model_->Run();
  EXPECT_EQ(status_, "running");
  EXPECT_THAT(qemu_->commands(), ElementsAre("qmp_capabilities", "cont"));
  // A guard also stops a guest, that of a deposed copy for example.
  model_->Stop();
  EXPECT_EQ(Settled(), State::kStopped);
  EXPECT_EQ(status_, "paused");
  model_->Run();
  EXPECT_EQ(status_, "running");
  EXPECT_THAT(qemu_->commands(), ElementsAre("qmp_capabilities", "cont", "stop", "cont"));
}

TEST_F(QemuDeviceModelTest, ARefusalToSaveIsToldInItsWords) {
  ASSERT_TRUE(Open().ok());
  refusal_ = "State blocked by non-migratable device '0000:00:04.0/nvme'";
  model_->Stop();
  EXPECT_EQ(Settled(), State::kStopped);
  const absl::Status saved = model_->Save(room_).status();
  EXPECT_TRUE(absl::IsInternal(saved));
  EXPECT_THAT(std::string(saved.message()), HasSubstr("guest g1"));
  EXPECT_THAT(std::string(saved.message()), HasSubstr("non-migratable device"));
  model_->Run();
  refusal_.clear();
  model_->Stop();
  EXPECT_TRUE(model_->Save(room_).ok());
}

TEST_F(QemuDeviceModelTest, OneThatDoesNotStopHasNoState) {
  ASSERT_TRUE(Open().ok());
  qemu_->On("stop", [](const nlohmann::json& command, int) {
    return FakeQemu::Error(command, "There is a dump in process, please wait.");
  });
  status_ = "paused";
  model_->Stop();
  EXPECT_EQ(Settled(), State::kStopped);
  EXPECT_THAT(std::string(model_->Save(room_).status().message()), HasSubstr("a dump in process"));
}

TEST_F(QemuDeviceModelTest, WhatIsNoStateIsNotTakenForOne) {
  ASSERT_TRUE(Open().ok());
  saved_[5] = std::byte{1};
  model_->Stop();
  EXPECT_TRUE(absl::IsInternal(model_->Save(room_).status()));
}

TEST_F(QemuDeviceModelTest, AStateThatDoesNotFitIsNotCutOff) {
  ASSERT_TRUE(Open().ok());
  model_->Stop();
  EXPECT_TRUE(
      absl::IsResourceExhausted(model_->Save(std::span(room_).first(saved_.size() - 1)).status()));
  EXPECT_EQ(*model_->Save(std::span(room_).first(saved_.size())), saved_.size());
}

TEST_F(QemuDeviceModelTest, PatienceWithOneThatSavesTooSlowlyEnds) {
  ASSERT_TRUE(Open(true, absl::Milliseconds(1)).ok());
  saves_ = false;
  model_->Stop();
  EXPECT_TRUE(absl::IsDeadlineExceeded(model_->Save(room_).status()));
  EXPECT_NE(model_->Poll(), State::kLost) << "it may answer yet";
}

TEST_F(QemuDeviceModelTest, WhatItSavesLateIsNotTakenForTheNextEpochs) {
  ASSERT_TRUE(Open(true, absl::Milliseconds(1)).ok());
  std::promise<void> late;
  std::shared_future<void> written = late.get_future().share();
  qemu_->On("xen-save-devices-state", [&, written](const nlohmann::json& command, int) {
    written.wait();
    EXPECT_EQ(write(saves_to_, saved_.data(), saved_.size()), static_cast<ssize_t>(saved_.size()));
    return FakeQemu::Return(command);
  });
  model_->Stop();
  EXPECT_TRUE(absl::IsDeadlineExceeded(model_->Save(room_).status()));
  model_->Run();
  model_->Stop();
  EXPECT_EQ(model_->Poll(), State::kRunning) << "it is not asked while it still saves";
  late.set_value();
  while (model_->Poll() == State::kRunning) {
    pollfd waited = {.fd = model_->event_fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&waited, 1, 20'000), 1);
    model_->Stop();
  }
  absl::StatusOr<size_t> saved = model_->Save(room_);
  while (absl::IsDeadlineExceeded(saved.status())) saved = model_->Save(room_);
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_EQ(Text(std::span(room_).first(*saved)), Text(saved_));
}

TEST_F(QemuDeviceModelTest, PatienceWithOneThatDoesNotGoOnEnds) {
  ASSERT_TRUE(Open(true, absl::Milliseconds(1)).ok());
  goes_on_ = false;
  model_->Stop();
  model_->Run();
  qemu_->WaitForCommand("cont");
  EXPECT_EQ(model_->Poll(), State::kRunning);
  model_->Run();
  EXPECT_EQ(model_->Poll(), State::kRunning) << "said again, and not waited for longer";
}

TEST_F(QemuDeviceModelTest, OneThatHangsUpIsLostForGood) {
  ASSERT_TRUE(Open().ok());
  qemu_->On("stop", [this](const nlohmann::json&, int) {
    qemu_->HangUp();
    return std::string();
  });
  model_->Stop();
  EXPECT_EQ(Settled(), State::kLost);
  EXPECT_EQ(model_->event_fd(), -1) << "it announces nothing for ever";
  const absl::Status saved = model_->Save(room_).status();
  EXPECT_TRUE(absl::IsUnavailable(saved));
  EXPECT_THAT(std::string(saved.message()), HasSubstr("guest g1"));
  model_->Run();
  EXPECT_TRUE(absl::IsUnavailable(model_->LogWrites()));
  model_->Stop();
  EXPECT_EQ(model_->Poll(), State::kLost);
  EXPECT_TRUE(absl::IsUnavailable(model_->Save(room_).status()));
}

}  // namespace
}  // namespace haven
