// SPDX-License-Identifier: Apache-2.0
//
// The real haven-engine through what becomes of a group: promoted, and with a register that is
// lost.
#include <memory>
#include <string>

#include "engine/base/file_util.h"
#include "engine/cli/program_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// What a primary says that runs alone and would be protected.
constexpr char kAlone[] = "no backup has accepted a session";

class GroupLifeTest : public ProgramTest {
 protected:
  std::unique_ptr<Program> StartBackup(const Words& more) {
    Words words = {"backup", Arbiter(), OtherDirectory(), "--node=b", "--listen", Address()};
    words.insert(words.end(), more.begin(), more.end());
    std::unique_ptr<Program> backup = Start(words);
    EXPECT_TRUE(WaitFor([&] { return access(folder_.File("b.sock").c_str(), F_OK) == 0; }));
    return backup;
  }
  void ExpectState(const std::string& directory, int code) {
    EXPECT_TRUE(WaitFor([&] { return Run({"status", "g1", "--check", directory}) == code; }));
  }
  void End(const std::string& directory) {
    EXPECT_EQ(Run({"unprotect", "g1", directory}), 0);
    EXPECT_EQ(Run({"synthetic", "shutdown", "g1", directory}), 0);
  }
  // Waits for its words: a status may still be the last one of a guard before it.
  static void ExpectWords(const Program& guard, const std::string& words) {
    EXPECT_TRUE(WaitFor([&] { return guard.Output().find(words) != std::string::npos; }))
        << guard.Output();
  }
  // A group that was protected, has lost its backup and runs alone.
  std::unique_ptr<Program> Alone() {
    std::unique_ptr<Program> backup = StartBackup({});
    std::unique_ptr<Program> guard = Start(Protect({Backup()}));
    ExpectState(Directory(), 0);
    backup.reset();
    for (const pid_t pid : Processes()) {
      const absl::StatusOr<std::string> words =
          ReadBoundedFile(absl::StrCat("/proc/", pid, "/cmdline"), 65536);
      if (words.ok() && words->find(std::string("\0session\0", 9)) != std::string::npos) {
        EXPECT_EQ(kill(pid, SIGKILL), 0);
      }
    }
    ExpectState(Directory(), 4);
    return guard;
  }
  Words ProtectElsewhere(const Words& more) const {
    Words words = {"protect", "synthetic:name=g1,mem=1M", OtherDirectory(), "--node=b", Arbiter(),
                   Backup()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string OtherDirectory() const { return absl::StrCat("--directory=", folder_.File("b")); }
  std::string RegisterPath() const { return folder_.File("arbiter/g1.register"); }
  std::string RegisterText() const {
    const absl::StatusOr<std::string> text = ReadBoundedFile(RegisterPath(), 4096);
    return text.ok() ? *text : text.status().ToString();
  }
};

TEST_F(GroupLifeTest, APromotedCopyKeepsTheRulesOfItsNewNode) {
  const std::unique_ptr<Program> backup =
      StartBackup({"--rearm=3s", "--pause-budget=4s", "--copy-threads=2", "--arbiter-timeout=5s",
                   "--codec=lz4", "--codec-cache=5M", "--block-bytes=256", "--codec-hashes"});
  const std::unique_ptr<Program> guard =
      Start(Protect({Backup(), "--interval=7ms", "--detect=250ms", "--epoch-bytes=3M"}));
  ExpectState(Directory(), 0);
  Expect({"promote", "g1", OtherDirectory(), "--json"}, 0, R"({"group":"g1","exit_code":0,)");
  ASSERT_TRUE(WaitFor([&] { return GroupDirectory(folder_.File("b")).Load("g1").ok(); }));
  const GroupRecord record = *GroupDirectory(folder_.File("b")).Load("g1");
  EXPECT_EQ(record.rearm_us, 3'000'000);
  EXPECT_EQ(record.pause_budget_us, 4'000'000);
  EXPECT_EQ(record.copy_threads, 2u);
  EXPECT_EQ(record.codec, "lz4");
  EXPECT_EQ(record.codec_cache_bytes, uint64_t{5} << 20);
  EXPECT_EQ(record.codec_block_bytes, 256u);
  EXPECT_TRUE(record.codec_hashes);
  EXPECT_FALSE(record.codec_verify);
  EXPECT_EQ(record.arbiter_timeout_us, 5'000'000);
  // What the group was protected with goes on.
  EXPECT_EQ(record.interval_us, 7'000);
  EXPECT_EQ(record.detect_us, 250'000);
  EXPECT_EQ(record.journal_bytes, uint64_t{3} << 20);
  EXPECT_NE(guard->Wait(), -1) << "the deposed copy ends";
  ExpectWords(*backup, kAlone);
  End(OtherDirectory());
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

TEST_F(GroupLifeTest, AProtectedGuestThatVanishesEndsItOnBothSides) {
  const std::unique_ptr<Program> backup = StartBackup({});
  const std::unique_ptr<Program> guard = Start(Protect({Backup()}));
  ExpectState(Directory(), 0);
  ASSERT_EQ(kill(GuestPid(), SIGKILL), 0);
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
  EXPECT_THAT(guard->Output(), AllOf(HasSubstr("a guest of the group has ended by itself"),
                                     HasSubstr("group=g1 a guest has ended, and the protection")));
  EXPECT_THAT(RegisterText(), HasSubstr("mode=none"));
  EXPECT_FALSE(node_.Exists("g1"));
  EXPECT_TRUE(WaitFor([&] { return Processes().size() == 1; })) << "the listener alone";
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

TEST_F(GroupLifeTest, WhoeverListensIsToldInJson) {
  const std::unique_ptr<Program> backup = StartBackup({"--json"});
  ExpectWords(*backup, R"({"exit_code":0,"message":"node b listens at unix:)");
  const std::unique_ptr<Program> guard = Start(Protect({Backup(), "--json"}));
  ExpectState(Directory(), 0);
  Expect({"interval", "g1", "20ms", Directory(), "--json"}, 0, R"({"group":"g1","exit_code":0,)");
  Expect({"status", Directory(), "--json"}, 0, R"("state":"protected")");
  Expect({"unprotect", "g1", Directory(), "--json"}, 0, R"({"group":"g1","exit_code":0,)");
  EXPECT_EQ(guard->Wait(), 0);
  EXPECT_THAT(guard->Output(),
              HasSubstr(R"({"group":"g1","exit_code":0,"message":"is not protected any more"})"));
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0);
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0);
  EXPECT_THAT(backup->Output(), HasSubstr(R"("message":"node b listens no more")"));
}

TEST_F(GroupLifeTest, ALostRegisterIsMadeAnewOnAnOperatorsWordOnly) {
  std::unique_ptr<Program> guard = Alone();
  guard.reset();
  std::filesystem::remove(RegisterPath());

  guard = Start({"guard", "g1", Directory()});
  ExpectWords(*guard, "the register is gone");
  EXPECT_EQ(RegisterText(), "") << "a guard makes none by itself";
  guard.reset();

  guard = Start({"guard", "--create-register", "g1", Directory()});
  ExpectWords(*guard, kAlone);
  EXPECT_THAT(RegisterText(), AllOf(HasSubstr("haven1 term="), HasSubstr("owner=a."),
                                    HasSubstr("mode=solo"), HasSubstr("running=yes")));
  guard.reset();

  const std::string before = RegisterText();
  Expect({"guard", "--create-register", "g1", Directory()}, 4, "the register says haven1");
  EXPECT_EQ(RegisterText(), before);

  guard = Start({"guard", "g1", Directory()});
  ExpectWords(*guard, kAlone);
  End(Directory());
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
}

TEST_F(GroupLifeTest, AGroupsNameMovesToAnotherNodeOnAnOperatorsWordOnly) {
  std::unique_ptr<Program> guard = Alone();
  Expect(ProtectElsewhere({"--take-over"}), 4, "unprotect it there");
  EXPECT_THAT(RegisterText(), HasSubstr("owner=a."));
  End(Directory());
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();

  Expect(ProtectElsewhere({}), 4, "`protect --take-over` takes its name");
  ASSERT_EQ(Run({"synthetic", "start", "synthetic:name=g1,mem=1M", OtherDirectory()}), 0);
  Expect(ProtectElsewhere({}), 4, "`protect --take-over` takes its name");
  EXPECT_THAT(RegisterText(), AllOf(HasSubstr("owner=a."), HasSubstr("mode=none")));

  guard = Start(ProtectElsewhere({"--take-over"}));
  ExpectWords(*guard, kAlone);
  EXPECT_THAT(RegisterText(), AllOf(HasSubstr("owner=b."), HasSubstr("mode=solo")));
  Expect(Protect({Backup()}), 4, "unprotect it there");
  End(OtherDirectory());
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
}

TEST_F(GroupLifeTest, AGuestThatWasNeverProtectedOutlivesTheLossOfItsName) {
  ASSERT_EQ(Run({"synthetic", "start", "synthetic:name=g1,mem=1M", Directory()}), 0);
  const std::unique_ptr<Program> here = Start(Protect({Backup()}));
  ExpectWords(*here, kAlone);
  const std::unique_ptr<Program> there = Start(ProtectElsewhere({"--take-over"}));
  ExpectWords(*there, kAlone);
  Expect({"unprotect", "g1", Directory()}, 4, "its guests here run on");
  EXPECT_EQ(here->Wait(), 4) << here->Output();
  EXPECT_FALSE(node_.Exists("g1"));
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0) << "it is still there";
  End(OtherDirectory());
  EXPECT_EQ(there->Wait(), 0) << there->Output();
}

TEST_F(GroupLifeTest, ACopyThatWasProtectedTakesNothingOver) {
  std::unique_ptr<Program> guard = Alone();
  guard.reset();
  const std::string before = RegisterText();
  Expect(Protect({Backup(), "--take-over"}), 4, "is no new one");
  EXPECT_EQ(RegisterText(), before);
  guard = Start({"guard", "g1", Directory()});
  ExpectWords(*guard, kAlone);
  End(Directory());
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
}

TEST_F(GroupLifeTest, AGuardThatWaitsTakesUpWhatNobodyDrives) {
  const std::unique_ptr<Program> waiting = Start({"guard", "--wait", "g1", Directory()});
  std::unique_ptr<Program> first = Start(Protect({Backup()}));
  ExpectWords(*first, kAlone);
  EXPECT_EQ(waiting->Output(), "");
  first.reset();
  ExpectWords(*waiting, kAlone);
  End(Directory());
  EXPECT_EQ(waiting->Wait(), 0) << waiting->Output();
}

TEST_F(GroupLifeTest, AGuardThatWaitsForNothingEndsWhenToldTo) {
  const std::unique_ptr<Program> waiting = Start({"guard", "--wait", "g1", Directory()});
  EXPECT_TRUE(WaitFor([&] { return std::filesystem::exists(folder_.File("a")); }));
  waiting->Terminate();
  EXPECT_EQ(waiting->Wait(), 0) << waiting->Output();
}

TEST_F(GroupLifeTest, ADeposedCopyGetsNoRegister) {
  std::unique_ptr<Program> guard = Alone();
  guard.reset();
  const std::string before = RegisterText();
  std::filesystem::remove(RegisterPath());
  GroupRecord record = *node_.Load("g1");
  record.phase = GroupPhase::kDeposed;
  ASSERT_TRUE(node_.Save(record).ok());
  Expect({"guard", "--create-register", "g1", Directory()}, 4, "not deposed; this one is not");
  EXPECT_FALSE(std::filesystem::exists(RegisterPath()));

  record.phase = GroupPhase::kProtecting;
  ASSERT_TRUE(node_.Save(record).ok());
  ASSERT_TRUE(WriteFileAtomically(RegisterPath(), before).ok());
  guard = Start({"guard", "g1", Directory()});
  ExpectWords(*guard, kAlone);
  End(Directory());
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
}

}  // namespace
}  // namespace haven
