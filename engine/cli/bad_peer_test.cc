// SPDX-License-Identifier: Apache-2.0
//
// The real haven-engine with a backup that is wrong: the guest runs on, the status says why it is
// not protected, and nothing is left behind.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "engine/base/fd.h"
#include "engine/cli/program_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using testing::HasSubstr;

class BadPeerTest : public ProgramTest {
 protected:
  // A backup that listens, with these options besides the usual ones.
  std::unique_ptr<Program> StartBackup(const Words& more) {
    Words words = {"backup",   Arbiter(),  absl::StrCat("--directory=", folder_.File("b")),
                   "--node=b", "--listen", Address()};
    words.insert(words.end(), more.begin(), more.end());
    std::unique_ptr<Program> backup = Start(words);
    EXPECT_TRUE(WaitFor([&] { return access(folder_.File("b.sock").c_str(), F_OK) == 0; }));
    return backup;
  }

  // Protects g1 until its status contains `complaint`, then ends it all.
  void ExpectComplaint(const Words& protect, const std::string& complaint) {
    const std::unique_ptr<Program> guard = Start(protect);
    std::string status;
    EXPECT_TRUE(WaitFor([&] {
      const std::unique_ptr<Program> show = Start({"status", "g1", Directory()});
      show->Wait();
      status = show->Output();
      return status.find(complaint) != std::string::npos;
    })) << status;
    EXPECT_THAT(status, HasSubstr("unprotected"));
    EXPECT_TRUE(GuestIsThere()) << "it runs on";
    EXPECT_EQ(Run({"unprotect", "g1", Directory()}), 0);
    EXPECT_EQ(guard->Wait(), 0) << guard->Output();
    EXPECT_EQ(Run({"synthetic", "shutdown", "g1", Directory()}), 0);
  }
};

TEST_F(BadPeerTest, ABackupThatSendsGarbage) {
  const UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = folder_.File("b.sock");
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 8), 0);
  std::thread backup([&] {
    const std::string garbage(4096, '\xa5');
    while (true) {
      const UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer) return;
      send(peer.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    }
  });
  ExpectComplaint(Protect({Backup()}), "error");
  shutdown(listener.get(), SHUT_RDWR);
  backup.join();
}

TEST_F(BadPeerTest, ABackupWithoutRoomForTheJournal) {
  const std::unique_ptr<Program> backup = StartBackup({"--journal-bytes=1M"});
  ExpectComplaint(Protect({Backup(), "--epoch-bytes=64M"}), "this backup allows");
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

TEST_F(BadPeerTest, StagingThatThisHostHasNoMemoryFor) {
  const std::unique_ptr<Program> backup = StartBackup({});
  ExpectComplaint(Protect({Backup(), "--epoch-bytes=256G"}), "memory");
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

// Two nodes that ask different arbiters do not see each other there: the backup is the last to
// notice that they mean the same group.
TEST_F(BadPeerTest, ABackupThatProtectsAnotherGroupOfThatName) {
  const std::unique_ptr<Program> backup = StartBackup({});
  const std::unique_ptr<Program> first =
      Start({"protect", "synthetic:name=g1,mem=1M", absl::StrCat("--directory=", folder_.File("c")),
             "--node=c", Arbiter(), Backup()});
  ASSERT_TRUE(WaitFor([&] {
    return Run({"status", "g1", "--check", absl::StrCat("--directory=", folder_.File("c"))}) == 0;
  })) << first->Output();
  std::filesystem::create_directory(folder_.File("other"));
  ASSERT_TRUE(WriteFileAtomically(folder_.File("other/haven-arbiter"), "").ok());
  ExpectComplaint({"protect", "synthetic:name=g1,mem=1M", Directory(), "--node=a",
                   absl::StrCat("--arbiter=file:", folder_.File("other")), Backup()},
                  "group-busy");
  EXPECT_EQ(Run({"status", "g1", "--check", absl::StrCat("--directory=", folder_.File("c"))}), 0)
      << "undisturbed";
  EXPECT_EQ(Run({"unprotect", "g1", absl::StrCat("--directory=", folder_.File("c"))}), 0);
  EXPECT_EQ(first->Wait(), 0) << first->Output();
  EXPECT_EQ(Run({"synthetic", "shutdown", "g1", absl::StrCat("--directory=", folder_.File("c"))}),
            0);
  backup->Terminate();
  EXPECT_EQ(backup->Wait(), 0) << backup->Output();
}

}  // namespace
}  // namespace haven
