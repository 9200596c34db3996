// SPDX-License-Identifier: Apache-2.0
//
// The listener with shells in place of sessions.
#include "engine/control/listener_loop.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/wake_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/shm/shm_transport.h"

namespace haven {
namespace {

using testing::HasSubstr;

class ListenerLoopTest : public testing::Test {
 protected:
  ~ListenerLoopTest() override {
    Stop();
    while (!sessions_.empty()) Release(sessions_.back());
  }

  void Start(const std::string& script, size_t max_sessions = 64) {
    StartCommand({"/bin/sh", "-c", script}, max_sessions);
  }
  void StartCommand(std::vector<std::string> command, size_t max_sessions = 64) {
    options_.session_command = std::move(command);
    options_.max_sessions = max_sessions;
    listening_ = false;
    thread_ = std::thread([this] {
      result_ = RunListener(transport_, options_, stop_.fd(),
                            [this](const std::string&) { listening_ = true; });
    });
    EXPECT_TRUE(WaitFor([this] { return listening_.load(); }));
  }
  void Stop() {
    if (!thread_.joinable()) return;
    stop_.Signal();
    thread_.join();
    stop_.Clear();
    EXPECT_TRUE(result_.ok()) << result_;
  }
  // The beginning of a session's script: it tells its pid, and waits for Release().
  std::string Wait() const {
    return absl::StrCat("pipe=", folder_.path().string(),
                        "/$$; mkfifo $pipe; echo $$ >&3; read x < $pipe; ");
  }
  pid_t ReadPid(const UniqueFd& client) {
    pid_t pid = 0;
    EXPECT_TRUE(absl::SimpleAtoi(ReadLine(client), &pid));
    sessions_.push_back(pid);
    return pid;
  }
  void Release(pid_t session) {
    std::erase(sessions_, session);
    const std::string pipe = folder_.File(absl::StrCat(session));
    // Without a reader yet: it is on its way there.
    EXPECT_TRUE(WaitFor(
        [&] { return UniqueFd(open(pipe.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)).valid(); }));
  }
  absl::Status RunToItsError() {
    return RunListener(transport_, options_, stop_.fd(),
                       [](const std::string&) { ADD_FAILURE() << "it listens"; });
  }
  UniqueFd Connect() {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  // Until a line's end, or the end.
  static std::string ReadLine(const UniqueFd& fd) {
    std::string line;
    for (char c = 0; read(fd.get(), &c, 1) == 1 && c != '\n';) line.push_back(c);
    return line;
  }

  const ShortFolder folder_;
  const std::string path_ = folder_.File("b.sock");
  ShmTransport transport_;
  ListenerOptions options_ = {.address = absl::StrCat("unix:", path_), .session_command = {}};
  const WakeFd stop_ = *WakeFd::Create();
  std::atomic<bool> listening_{false};
  absl::Status result_;
  std::thread thread_;
  std::vector<pid_t> sessions_;  // That wait for Release().
};

TEST_F(ListenerLoopTest, EachConnectionHasAProcessOfItsOwn) {
  Start(Wait() + "read word <&3; echo \"heard $word\" >&3");
  const UniqueFd first = Connect();
  const UniqueFd second = Connect();
  const pid_t one = ReadPid(first);
  const pid_t two = ReadPid(second);
  EXPECT_NE(one, two);
  ASSERT_EQ(write(second.get(), "two\n", 4), 4);
  ASSERT_EQ(write(first.get(), "one\n", 4), 4);
  Release(one);
  Release(two);
  EXPECT_EQ(ReadLine(second), "heard two");
  EXPECT_EQ(ReadLine(first), "heard one");
  EXPECT_EQ(ReadLine(first), "") << "the listener holds no copy of the connection";
}

TEST_F(ListenerLoopTest, ASessionThatDiesAtOnceCostsItsConnectionOnly) {
  Start("kill -SEGV $$");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadLine(Connect()), "");
}

TEST_F(ListenerLoopTest, AProgramThatDoesNotExistCostsTheConnectionOnly) {
  StartCommand({folder_.File("none")});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadLine(Connect()), "");
}

TEST_F(ListenerLoopTest, NothingOfWhatAStrangerSendsIsRead) {
  Start(Wait() + "wc -c <&3 >&3");
  const UniqueFd stranger = Connect();
  const std::string garbage(1000, '\xff');
  ASSERT_EQ(write(stranger.get(), garbage.data(), garbage.size()), 1000);
  ASSERT_EQ(shutdown(stranger.get(), SHUT_WR), 0);
  Release(ReadPid(stranger));
  EXPECT_EQ(ReadLine(stranger), "1000");
}

TEST_F(ListenerLoopTest, AFullHostServesTheNextOneWhenASessionEnds) {
  Start(Wait(), /*max_sessions=*/1);
  const UniqueFd first = Connect();
  const pid_t session = ReadPid(first);
  const UniqueFd second = Connect();
  char byte = 0;
  EXPECT_LT(recv(second.get(), &byte, 1, MSG_DONTWAIT), 0);
  Release(session);
  EXPECT_NE(ReadPid(second), session);
}

TEST_F(ListenerLoopTest, SessionsLiveOnWhenTheListenerEnds) {
  Start(Wait() + "echo alive >&3");
  const UniqueFd client = Connect();
  const pid_t session = ReadPid(client);
  Stop();
  EXPECT_NE(access(path_.c_str(), F_OK), 0) << "the socket went with its listener";
  Release(session);
  EXPECT_EQ(ReadLine(client), "alive");
}

TEST_F(ListenerLoopTest, ASignalForTheListenersGroupIsNoneForASession) {
  Start(Wait());
  const UniqueFd client = Connect();
  const pid_t session = ReadPid(client);
  EXPECT_EQ(getsid(session), session);
  EXPECT_EQ(getpgid(session), session);
}

TEST_F(ListenerLoopTest, SignalsThatTheListenerBlocksReachASession) {
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &term, &before), 0);
  Start(Wait());
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  const UniqueFd client = Connect();
  const pid_t session = ReadPid(client);
  ASSERT_EQ(kill(session, SIGTERM), 0);
  std::erase(sessions_, session);
  EXPECT_EQ(ReadLine(client), "") << "it has ended";
}

TEST_F(ListenerLoopTest, TheSocketOfADeadListenerIsReplaced) {
  {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  Start("echo served >&3");
  EXPECT_EQ(ReadLine(Connect()), "served");
}

TEST_F(ListenerLoopTest, AnAddressThatIsTakenIsNamed) {
  Start("exit 0");
  const absl::Status taken = RunToItsError();
  EXPECT_TRUE(absl::IsAlreadyExists(taken)) << taken;
  EXPECT_THAT(std::string(taken.message()), HasSubstr(path_));
}

TEST_F(ListenerLoopTest, AddressesThatCanNotBeListenedAt) {
  ASSERT_TRUE(WriteFileAtomically(folder_.File("file"), "kept").ok());
  for (const std::string& address :
       {absl::StrCat("unix:", folder_.File("file")), absl::StrCat("unix:", folder_.File("no/b")),
        absl::StrCat("unix:", folder_.File("file/b")), std::string("unix:relative"),
        absl::StrCat("unix:/", std::string(120, 'x')), std::string("tcp:1"),
        std::string("nowhere")}) {
    options_.address = address;
    EXPECT_FALSE(RunToItsError().ok()) << address;
  }
  EXPECT_EQ(*ReadBoundedFile(folder_.File("file"), 10), "kept");
}

// Fails as often as it is told to, as accept(2) does without descriptors.
class FailingListener final : public Listener {
 public:
  FailingListener(std::unique_ptr<Listener> inner, int failures)
      : inner_(std::move(inner)), failures_(failures) {}
  absl::StatusOr<std::optional<int>> Accept() override {
    if (failures_-- > 0) return absl::ResourceExhaustedError("no descriptor is left");
    return inner_->Accept();
  }
  int fd() const override { return inner_->fd(); }
  std::string address() const override { return inner_->address(); }

 private:
  const std::unique_ptr<Listener> inner_;
  int failures_;
};

class FailingTransport final : public Transport {
 public:
  absl::StatusOr<std::unique_ptr<Listener>> Listen(absl::string_view address) override {
    absl::StatusOr<std::unique_ptr<Listener>> listener = inner_.Listen(address);
    if (!listener.ok()) return listener.status();
    return std::make_unique<FailingListener>(*std::move(listener), 2);
  }
  absl::StatusOr<std::unique_ptr<ControlChannel>> Connect(absl::string_view address,
                                                          absl::Duration timeout) override {
    return inner_.Connect(address, timeout);
  }
  absl::StatusOr<std::unique_ptr<ControlChannel>> Adopt(int fd, absl::Duration timeout) override {
    return inner_.Adopt(fd, timeout);
  }
  absl::StatusOr<std::unique_ptr<Endpoint>> MakeEndpoint(ControlChannel& channel) override {
    return inner_.MakeEndpoint(channel);
  }
  absl::Status Attach(Endpoint& endpoint, ControlChannel& channel) override {
    return inner_.Attach(endpoint, channel);
  }

 private:
  ShmTransport inner_;
};

TEST_F(ListenerLoopTest, WhoCanNotBeAcceptedYetIsServedLater) {
  FailingTransport failing;
  options_.session_command = {"/bin/sh", "-c", "echo served >&3"};
  thread_ = std::thread([this, &failing] {
    result_ = RunListener(failing, options_, stop_.fd(),
                          [this](const std::string&) { listening_ = true; });
  });
  ASSERT_TRUE(WaitFor([this] { return listening_.load(); }));
  EXPECT_EQ(ReadLine(Connect()), "served");
  Stop();
}

}  // namespace
}  // namespace haven
