// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/held_device_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/short_folder_testing.h"
#include "xen/backup/fake_incoming_qemu_testing.h"
#include "xen/base/formats_testing.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

class HeldDeviceModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    files_ = {folder_ / "qemu-resume.7", folder_ / "qmp", folder_ / "log"};
  }

  // What the toolstack does with EMULATOR_CONTEXT.
  void WriteStateFile(size_t bytes = kEmptyDeviceModelState.size()) {
    std::ofstream(files_.state_file) << std::string(bytes, 'Q');
  }

  absl::StatusOr<std::unique_ptr<HeldDeviceModel>> Hold(absl::Duration limit = absl::Seconds(20)) {
    return HeldDeviceModel::Hold(files_, TimeLimit(limit), [this] { return ended_; });
  }
  absl::Status Wake(HeldDeviceModel& held, absl::Duration limit = absl::Seconds(20)) {
    return held.Wake(TimeLimit(limit), [this] { return ended_; });
  }
  static absl::Status Give(HeldDeviceModel& held, const std::vector<std::byte>& state,
                           absl::Duration limit = absl::Seconds(20)) {
    return held.Give(state, TimeLimit(limit));
  }

  // One that waits for its state, with a QEMU of this manner.
  std::unique_ptr<HeldDeviceModel> Waiting(FakeIncomingQemuManner manner) {
    WriteStateFile();
    absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
    EXPECT_TRUE(held.ok()) << held.status();
    qemu_.emplace(files_, std::move(manner));
    EXPECT_TRUE(Wake(**held).ok());
    fs::remove(files_.state_file);
    (*held)->ToolstackIsReady();
    return *std::move(held);
  }

  const ShortFolder temporary_;
  const fs::path folder_ = temporary_.path();
  DeviceModelFiles files_;
  bool ended_ = false;
  std::optional<FakeIncomingQemu> qemu_;
};

TEST_F(HeldDeviceModelTest, TheStateFileBecomesALinkToAPipe) {
  WriteStateFile();
  const absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  ASSERT_TRUE(held.ok()) << held.status();
  ASSERT_TRUE(fs::is_symlink(files_.state_file));
  EXPECT_TRUE(fs::is_fifo(files_.state_file));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(HeldDeviceModelTest, NothingButTheWholeEmptyStateIsReplaced) {
  const absl::Duration at_once = absl::ZeroDuration();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Hold(at_once).status())) << "no file";
  for (const size_t bytes : {0, 8, 10}) {
    WriteStateFile(bytes);
    EXPECT_TRUE(absl::IsDeadlineExceeded(Hold(at_once).status())) << bytes;
  }
  // A link that an earlier process has left.
  fs::remove(files_.state_file);
  std::ofstream(folder_ / "elsewhere") << std::string(9, 'Q');
  fs::create_symlink(folder_ / "elsewhere", files_.state_file);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Hold(at_once).status()));
  ended_ = true;
  EXPECT_TRUE(absl::IsUnavailable(Hold().status()));
}

TEST_F(HeldDeviceModelTest, ALinkThatADeadProcessHasLeftIsInNobodysWay) {
  fs::create_symlink("/proc/1/fd/999", files_.state_file + ".haven");
  WriteStateFile();
  EXPECT_TRUE(Hold().ok());
}

TEST_F(HeldDeviceModelTest, TheLinkDoesNotOutliveIt) {
  WriteStateFile();
  Hold()->reset();
  EXPECT_FALSE(fs::is_symlink(files_.state_file));
  // But somebody else's does.
  WriteStateFile();
  absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  ASSERT_TRUE(held.ok()) << held.status();
  fs::remove(files_.state_file);
  fs::create_symlink("/proc/1/fd/999", files_.state_file);
  held->reset();
  EXPECT_TRUE(fs::is_symlink(files_.state_file));
}

TEST_F(HeldDeviceModelTest, ItWaitsUntilItGetsTheState) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({});
  EXPECT_EQ(held->version(), "7.2.22 Debian 1:7.2+dfsg-7+deb12u18+b3");
  EXPECT_TRUE(held->waits());
  EXPECT_TRUE(held->Check().ok());
  EXPECT_TRUE(qemu_->state().empty());
  const std::vector<std::byte> state = FakeDeviceModelState();
  ASSERT_TRUE(Give(*held, state).ok());
  EXPECT_EQ(qemu_->state(), state);
  EXPECT_FALSE(held->waits());
  EXPECT_TRUE(held->Check().ok());
}

TEST_F(HeldDeviceModelTest, AStateIsLoadedOnce) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({});
  ASSERT_TRUE(Give(*held, FakeDeviceModelState(100)).ok());
  const absl::Status again = Give(*held, FakeDeviceModelState(100));
  EXPECT_TRUE(absl::IsInternal(again));
  EXPECT_THAT(std::string(again.message()), HasSubstr("loads only one"));
  EXPECT_EQ(qemu_->state(), FakeDeviceModelState(100));
}

TEST_F(HeldDeviceModelTest, AStateMayBeLargerThanThePipe) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({});
  const std::vector<std::byte> state = FakeDeviceModelState(3 << 20);
  ASSERT_TRUE(Give(*held, state).ok());
  EXPECT_EQ(qemu_->state(), state);
}

TEST_F(HeldDeviceModelTest, AReaderThatDiesIsQuoted) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({.dies_after = 100});
  // More than the pipe holds: the writer sees it as well.
  const absl::Status given = Give(*held, FakeDeviceModelState(3 << 20));
  EXPECT_TRUE(absl::IsInternal(given));
  EXPECT_THAT(std::string(given.message()), HasSubstr("load of migration failed"));
  EXPECT_TRUE(absl::IsAborted(held->Check()));
}

TEST_F(HeldDeviceModelTest, AStateThatItDoesNotTakeIsQuoted) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({.dies_after = 100});
  const absl::Status given = Give(*held, FakeDeviceModelState(100));
  EXPECT_TRUE(absl::IsInternal(given));
  EXPECT_THAT(std::string(given.message()), HasSubstr("load of migration failed"));
}

TEST_F(HeldDeviceModelTest, OneThatDoesNotReadIsNotWaitedForLongerThanTheLimit) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({.reads = false});
  const absl::Status given = Give(*held, FakeDeviceModelState(3 << 20), absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsInternal(given));
  EXPECT_THAT(std::string(given.message()), HasSubstr("does not read it"));
}

TEST_F(HeldDeviceModelTest, NorIsOneThatDoesNotRun) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({.reads = false});
  const absl::Status given = Give(*held, FakeDeviceModelState(100), absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsInternal(given));
  EXPECT_FALSE(held->waits());
}

TEST_F(HeldDeviceModelTest, OneThatStopsAfterTheLoadIsNoSuccess) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({.loaded = "paused"});
  const absl::Status given = Give(*held, FakeDeviceModelState(100));
  EXPECT_TRUE(absl::IsInternal(given));
  EXPECT_THAT(std::string(given.message()), HasSubstr("\"paused\""));
}

TEST_F(HeldDeviceModelTest, OneThatDoesNotWaitIsRefused) {
  WriteStateFile();
  const absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  qemu_.emplace(files_, FakeIncomingQemuManner{.waiting = "running"});
  const absl::Status woken = Wake(**held);
  EXPECT_TRUE(absl::IsInternal(woken));
  EXPECT_THAT(std::string(woken.message()), HasSubstr("\"running\""));
}

TEST_F(HeldDeviceModelTest, ItIsToAnnounceNothingByItselfBeforeItHasAState) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({});
  EXPECT_THAT(qemu_->parameters(), ElementsAre(R"({"announce-rounds":0})"));
  EXPECT_TRUE(held->waits());
  EXPECT_TRUE(qemu_->state().empty());
  ASSERT_TRUE(Give(*held, FakeDeviceModelState(100)).ok());
  EXPECT_EQ(qemu_->parameters().size(), 1);
}

TEST_F(HeldDeviceModelTest, OneThatRefusesToAnnounceNothingIsNotTaken) {
  WriteStateFile();
  const absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  qemu_.emplace(files_, FakeIncomingQemuManner{.refused = "migrate-set-parameters"});
  const absl::Status woken = Wake(**held);
  EXPECT_TRUE(absl::IsInternal(woken)) << woken;
  EXPECT_THAT(std::string(woken.message()), HasSubstr("refuses migrate-set-parameters"));
  EXPECT_THAT(qemu_->parameters(), ElementsAre());
  EXPECT_TRUE(qemu_->state().empty());
}

TEST_F(HeldDeviceModelTest, OneThatDoesNotComeUpIsWaitedForAsLongAsTheToolstackWaits) {
  WriteStateFile();
  const absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Wake(**held, absl::ZeroDuration())));
  ended_ = true;
  EXPECT_TRUE(absl::IsUnavailable(Wake(**held)));
}

TEST_F(HeldDeviceModelTest, OneThatSaysNothingIsNotWaitedForWhenTheToolstackHasEnded) {
  WriteStateFile();
  const absl::StatusOr<std::unique_ptr<HeldDeviceModel>> held = Hold();
  const FakeQemu silent(files_.qmp_socket, "");
  ended_ = true;
  const TimeLimit far(absl::Seconds(60));
  EXPECT_TRUE(absl::IsUnavailable(Wake(**held, absl::Seconds(60))));
  EXPECT_GT(far.Remaining(), absl::Seconds(30));
}

TEST_F(HeldDeviceModelTest, ItsDeathIsSeen) {
  const std::unique_ptr<HeldDeviceModel> held = Waiting({});
  EXPECT_TRUE(held->Check().ok());
  qemu_->End();
  const absl::Status checked = held->Check();
  EXPECT_TRUE(absl::IsAborted(checked));
  EXPECT_THAT(std::string(checked.message()), HasSubstr("hung up"));
  EXPECT_TRUE(absl::IsInternal(Give(*held, FakeDeviceModelState(100))));
}

}  // namespace
}  // namespace haven
