// SPDX-License-Identifier: Apache-2.0
//
// The real haven-engine with input that is wrong: each case has a clear message and a documented
// exit code within a deadline, and leaves nothing behind.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/cli/program_testing.h"
#include "engine/membership/arbiter_factory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

using BadInputTest = ProgramTest;

TEST_F(BadInputTest, WordsThatMakeNoSense) {
  Expect({}, 2, "usage: haven-engine");
  Expect({"frobnicate"}, 2, "no command \"frobnicate\"");
  Expect({"protect"}, 2, "at least one guest");
  Expect({"protect", "--bogus"}, 2, "no option --bogus");
  Expect({"protect", "--group=x", "--group=y"}, 2, "--group is given twice");
  Expect({"protect", "--group"}, 2, "--group needs a value");
  Expect({"status", "--json=1"}, 2, "--json takes no value");
  Expect({"interval", "g1"}, 2, "name a group and a time");
  Expect({"codec", "g1"}, 2, "name a group and a mode");
  Expect({"codec", "g1", "on", Directory()}, 2, "codec \"on\": one of off, auto, blocks");
  Expect({"unprotect"}, 2, "name one group");
  Expect({"status", "../g1", Directory()}, 2, "\"../g1\"");
  Expect({"backup"}, 2, "--arbiter is needed");
  Expect({"backup", Arbiter(), Directory(), "--listen=nowhere"}, 2, "'nowhere'");
  Expect({"backup", Arbiter(), Directory(), "--ring-bytes=much"}, 2, "--ring-bytes much");
  Expect({"backup", Arbiter(), Directory(), "--pool-bytes=2T"}, 2, "--pool-bytes 2T");
  Expect({"arbiter", "list", "file:/x"}, 2, "manual:/DIRECTORY");
  Expect({"synthetic", "frobnicate", "g1", Directory()}, 2, "say start SPEC");
  Expect({"status", "--log-level=loud", Directory()}, 2, "unknown log level \"loud\"");
}

TEST_F(BadInputTest, AProtectionThatCanNotBeStartsNoGuest) {
  Expect(Protect(), 2, "--backup is needed");
  Expect({"protect", "synthetic:name=g1", Directory(), Backup()}, 2, "--arbiter is needed");
  Expect(Protect({"--backup=tcp:host"}), 2, "--backup \"tcp:host\"");
  Expect(Protect({"--backup=unix:/\xff"}), 2, "--backup \"unix:/\\xff\"");
  Expect(Protect({Backup(), "--return-address=here"}), 2, "--return-address \"here\"");
  Expect(Protect({Backup(), "--interval=25"}), 2, "--interval 25");
  Expect(Protect({Backup(), "--detect=2h"}), 2, "--detect 2h");
  Expect(Protect({Backup(), "--heartbeat=5us"}), 2, "--heartbeat: 1 ms to 1 s");
  Expect(Protect({Backup(), "--heartbeat=2s"}), 2, "--heartbeat 2s");
  Expect(Protect({Backup(), "--detect=90ms", "--heartbeat=31ms"}), 2, "a third of --detect");
  Expect(Protect({Backup(), "--epoch-bytes=5"}), 2, "--epoch-bytes 5");
  Expect(Protect({Backup(), "--copy-threads=65"}), 2, "--copy-threads 65");
  Expect(Protect({Backup(), "--codec=on"}), 2, "codec \"on\": one of off, auto, blocks");
  Expect(Protect({Backup(), "--block-bytes=100"}), 2, "--block-bytes 100: 64, 128 or 256");
  Expect(Protect({Backup(), "--codec-cache=much"}), 2, "--codec-cache much");
  Expect(Protect({Backup(), "--group=a/b"}), 2, "\"a/b\"");
  Expect(Protect({Backup(), "kvm:name=g2"}), 2, "kvm:name=g2");
  Expect(Protect({Backup(), "synthetic:name=g2,mem=banana"}), 2, "mem=banana");
  Expect(Protect({"--json"}), 2, R"({"exit_code":2,"message":"--backup is needed)");
  Expect(Protect({"--json", "--group=g2", Backup(), "--interval=0"}), 2, R"({"group":"g2",)");
  Expect({"backup", "--json"}, 2, R"({"exit_code":2,"message":"--arbiter is needed)");
  EXPECT_TRUE(Processes().empty());
}

TEST_F(BadInputTest, EveryCommandSaysWhatItDoes) {
  Expect({"--help"}, 0, "exit codes: 0 done");
  for (const char* command :
       {"backup", "protect", "status", "promote", "interval", "unprotect", "handover", "codec",
        "retire", "guard", "synthetic", "arbiter", "keygen"}) {
    Expect({"--help"}, 0, absl::StrCat("  ", command));
    Expect({command, "--help"}, 0, absl::StrCat("usage: haven-engine ", command));
  }
  for (const char* command :
       {"backup", "protect", "status", "promote", "interval", "unprotect", "handover"}) {
    Expect({command, "--help"}, 0, "--json");
  }
}

TEST_F(BadInputTest, WhatIsNotHereIsNotFound) {
  Expect({"status", Directory()}, 3, folder_.File("a"));
  ASSERT_TRUE(node_.Ensure().ok());
  Expect({"status", "g1", Directory()}, 3, "group g1");
  for (const char* command : {"unprotect", "handover", "promote", "retire"}) {
    Expect({command, "g1", Directory()}, 3, "group g1: no engine or session drives this group");
    Expect({command, "g1", Directory(), "--json"}, 3, R"({"group":"g1","exit_code":3,"message":")");
  }
  Expect({"guard", "g1", Directory()}, 3, "g1.group");
  Expect({"synthetic", "show", "g1", Directory()}, 3, "g1");
}

TEST_F(BadInputTest, ADirectoryThatCanNotBe) {
  ASSERT_TRUE(WriteFileAtomically(folder_.File("a"), "").ok());
  Expect(Protect({Backup()}), 4, "is no directory");
  Expect({"backup", Arbiter(), Directory(), "--listen", Address()}, 4, "is no directory");
}

TEST_F(BadInputTest, ADamagedRecordIsNamedAndKept) {
  ASSERT_TRUE(node_.Ensure().ok());
  ASSERT_TRUE(WriteFileAtomically(node_.RecordPath("g1"), "{").ok());
  Expect({"guard", "g1", Directory()}, 1, node_.RecordPath("g1"));
  Expect(Protect({Backup()}), 1, node_.RecordPath("g1"));
  EXPECT_TRUE(node_.Exists("g1"));
}

TEST_F(BadInputTest, ASecondProtectOfTheSameGroupIsRefused) {
  ASSERT_TRUE(node_.Ensure().ok());
  const absl::StatusOr<UniqueFd> lock = node_.Lock("g1");
  ASSERT_TRUE(lock.ok()) << lock.status();
  Expect(Protect({Backup()}), 4, absl::StrCat("driven by the process with pid ", getpid()));
  EXPECT_TRUE(Processes().empty());
}

TEST_F(BadInputTest, ASecondGroupCanNotHaveTheSameGuest) {
  const std::unique_ptr<Program> guard = Start(Protect({Backup()}));
  EXPECT_TRUE(WaitFor([this] { return IsUnprotected(); }));
  Expect(Protect({Backup(), "--group=g2"}), 4, "guest synthetic:g1 belongs to group g1");
  EXPECT_FALSE(node_.Exists("g2"));
  EXPECT_TRUE(IsUnprotected()) << "the first goes on";
  EXPECT_EQ(Run({"unprotect", "g1", Directory()}), 0);
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0);
}

TEST_F(BadInputTest, NoBlankGuestTakesThePlaceOfAProtectedOne) {
  ASSERT_TRUE(node_.Ensure().ok());
  GroupRecord record;
  record.group = "g1";
  record.owner = "a.0000000000000001";
  record.phase = GroupPhase::kProtecting;
  record.guests = {"synthetic:g1"};
  record.interval_us = record.detect_us = record.rearm_us = 1000;
  record.pause_budget_us = record.arbiter_timeout_us = 1000;
  record.journal_bytes = 1 << 20;
  ASSERT_TRUE(node_.Save(record).ok());
  Expect(Protect({Backup()}), 4, "no blank guest is started instead");
  EXPECT_FALSE(GuestIsThere());
  EXPECT_EQ(*node_.Load("g1"), record);
}

TEST_F(BadInputTest, NoGuestIsStartedForAGroupThatMayRunElsewhere) {
  const absl::StatusOr<std::unique_ptr<haven::Arbiter>> arbiter =
      MakeArbiter(absl::StrCat("file:", folder_.File("arbiter")));
  ASSERT_TRUE(arbiter.ok()) << arbiter.status();
  RegisterRequest request;
  request.desired.term = 1;
  request.desired.owner = "b.0000000000000002";
  request.desired.mode = RegisterMode::kSolo;
  request.desired.stamp = 5;
  ASSERT_EQ((*arbiter)->CompareAndSet("g1", request, kTestPatience).verdict, Verdict::kGranted);
  Expect(Protect({Backup()}), 4, "owner=b.0000000000000002");
  EXPECT_FALSE(GuestIsThere());
  EXPECT_FALSE(node_.Exists("g1"));
}

TEST_F(BadInputTest, ANodeWithoutGroupsIsNoProtectedNode) {
  ASSERT_TRUE(node_.Ensure().ok());
  Expect({"status", Directory()}, 0, "nothing is protected here");
  Expect({"status", "--check", Directory()}, 4, "nothing is protected here");
}

TEST_F(BadInputTest, ABackupThatNobodyReachesLeavesTheGuestUnprotected) {
  const std::unique_ptr<Program> guard = Start(Protect({Backup()}));
  std::string status;
  EXPECT_TRUE(WaitFor([&] {
    const std::unique_ptr<Program> show = Start({"status", "g1", Directory()});
    show->Wait();
    status = show->Output();
    return status.find(Address()) != std::string::npos;
  })) << status;
  EXPECT_THAT(status, HasSubstr("unprotected"));
  EXPECT_THAT(status, HasSubstr("is the backup running"));
  EXPECT_EQ(Run({"unprotect", "g1", Directory()}), 0);
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
  EXPECT_TRUE(GuestIsThere()) << "it runs on";
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0);
}

TEST_F(BadInputTest, AGuestThatVanishesEndsItsProtection) {
  const std::unique_ptr<Program> guard = Start(Protect({Backup()}));
  EXPECT_TRUE(WaitFor([this] { return IsUnprotected(); }));
  ASSERT_EQ(kill(GuestPid(), SIGKILL), 0);
  EXPECT_EQ(guard->Wait(), 0) << guard->Output();
  EXPECT_THAT(guard->Output(), HasSubstr("group=g1 a guest has ended, and the protection"));
  EXPECT_FALSE(node_.Exists("g1"));
}

TEST_F(BadInputTest, AStrangersGarbageCostsItsConnectionOnly) {
  const Words words = {"backup", Arbiter(), Directory(), "--node=b", "--listen", Address()};
  const std::unique_ptr<Program> backup = Start(words);
  const std::string path = folder_.File("b.sock");
  ASSERT_TRUE(WaitFor([&] { return access(path.c_str(), F_OK) == 0; }));
  Expect(words, 4, "another process listens");
  const UniqueFd stranger(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_TRUE(WaitFor([&] {
    return connect(stranger.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
           0;
  }));
  const std::string garbage(4096, '\xa5');
  EXPECT_EQ(send(stranger.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL), 4096);
  // The session ends; whatever it says first does not matter.
  char byte = 0;
  while (recv(stranger.get(), &byte, 1, 0) > 0) continue;
  EXPECT_TRUE(WaitFor([&] { return Processes().size() == 1; })) << "the listener alone";
  // A process that is not seen any more may not have ended for its parent yet.
  EXPECT_TRUE(WaitFor([&] { return backup->Output().find("ended, status") != std::string::npos; }))
      << backup->Output();
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

}  // namespace
}  // namespace haven
