// SPDX-License-Identifier: Apache-2.0
#include "engine/membership/arbiter_etcd_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/membership/arbiter_deadline.h"
#include "engine/membership/arbiter_http_testing.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(30);
constexpr int kExitNoEtcd = 127;

int FreePort() {
  uint16_t port = 0;
  ListenOnLoopback(port).reset();
  return port;
}

std::string PeerUrl(int port) { return absl::StrCat("http://127.0.0.1:", port); }
std::string NameOf(size_t index) { return absl::StrCat("member-", index); }

}  // namespace

TestEtcd::TestEtcd(std::string directory, size_t members, const EtcdTlsFiles* tls)
    : directory_(std::move(directory)),
      tls_(tls),
      http_(tls == nullptr ? HttpTlsFiles{} : tls->client),
      members_(members) {
  // Somebody else may take a port between its choice and its use.
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    if (StartAll()) return;
  }
  ADD_FAILURE() << "etcd does not start (is etcd-server installed?):\n" << LogOf(0);
}

TestEtcd::~TestEtcd() {
  for (size_t i = 0; i < members_.size(); ++i) Kill(i);
}

bool TestEtcd::StartAll() {
  for (size_t i = 0; i < members_.size(); ++i) {
    Kill(i);
    std::filesystem::remove_all(absl::StrCat(directory_, "/", NameOf(i)));
    members_[i] = {FreePort(), FreePort(), -1};
  }
  for (size_t i = 0; i < members_.size(); ++i) Spawn(i);
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!AwaitReady(i)) return false;
  }
  return true;
}

void TestEtcd::Spawn(size_t index) {
  std::vector<std::string> cluster;
  for (size_t i = 0; i < members_.size(); ++i) {
    cluster.push_back(absl::StrCat(NameOf(i), "=", PeerUrl(members_[i].peer_port)));
  }
  const std::string peer = PeerUrl(members_[index].peer_port);
  std::vector<std::string> arguments = {
      "etcd",
      "--name=" + NameOf(index),
      absl::StrCat("--data-dir=", directory_, "/", NameOf(index)),
      "--listen-client-urls=" + url(index),
      "--advertise-client-urls=" + url(index),
      "--listen-peer-urls=" + peer,
      "--initial-advertise-peer-urls=" + peer,
      "--initial-cluster=" + absl::StrJoin(cluster, ","),
      "--logger=zap",
  };
  if (tls_ != nullptr) {
    arguments.insert(arguments.end(),
                     {"--client-cert-auth", "--trusted-ca-file=" + tls_->ca,
                      "--cert-file=" + tls_->server_cert, "--key-file=" + tls_->server_key});
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const UniqueFd log(open(absl::StrCat(directory_, "/", NameOf(index), ".log").c_str(),
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  HAVEN_CHECK(log.valid());
  const pid_t parent = getpid();
  const pid_t pid = fork();
  HAVEN_CHECK_GE(pid, 0);
  if (pid == 0) {
    dup2(log.get(), STDOUT_FILENO);
    dup2(log.get(), STDERR_FILENO);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The parent may have died before the line above.
    if (getppid() == parent) execvp(argv[0], argv.data());
    _exit(kExitNoEtcd);
  }
  members_[index].pid = pid;
}

bool TestEtcd::AwaitReady(size_t index) {
  const Deadline deadline(kReadyTimeout);
  while (!deadline.Passed()) {
    // A read that needs the cluster's agreement: "/" = base64 "Lw==".
    const absl::StatusOr<HttpReply> reply =
        http_.PostJson(url(index) + "/v3/kv/range", R"({"key":"Lw=="})", deadline.Remaining());
    if (reply.ok() && reply->code == 200) return true;
    if (waitpid(members_[index].pid, nullptr, WNOHANG) != 0) {
      members_[index].pid = -1;
      return false;
    }
    deadline.Pause(absl::Milliseconds(5));
  }
  return false;
}

std::string TestEtcd::endpoint(size_t member) const {
  return absl::StrCat("127.0.0.1:", members_[member].client_port);
}

std::string TestEtcd::endpoints() const {
  std::vector<std::string> all;
  for (size_t i = 0; i < members_.size(); ++i) all.push_back(endpoint(i));
  return absl::StrJoin(all, ",");
}

std::string TestEtcd::url(size_t member) const {
  return absl::StrCat(tls_ == nullptr ? "http://" : "https://", endpoint(member));
}

void TestEtcd::Kill(size_t member) {
  const pid_t pid = std::exchange(members_[member].pid, -1);
  if (pid < 0) return;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

void TestEtcd::Restart(size_t member) {
  Kill(member);
  Spawn(member);
  EXPECT_TRUE(AwaitReady(member)) << LogOf(member);
}

void TestEtcd::Pause(size_t member) {
  const pid_t pid = members_[member].pid;
  kill(pid, SIGSTOP);
  // A thread on another processor goes on until the signal has reached it, and could still answer.
  int state = 0;
  EXPECT_EQ(waitpid(pid, &state, WUNTRACED), pid);
  EXPECT_TRUE(WIFSTOPPED(state));
}

void TestEtcd::Resume(size_t member) { kill(members_[member].pid, SIGCONT); }

std::string TestEtcd::LogOf(size_t index) const {
  std::ifstream file(absl::StrCat(directory_, "/", NameOf(index), ".log"));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  constexpr size_t kShownBytes = 4000;
  return text.size() <= kShownBytes ? text : text.substr(text.size() - kShownBytes);
}

}  // namespace haven
