// SPDX-License-Identifier: Apache-2.0
//
// The real haven-engine as a child process, for tests.
#ifndef HAVEN_ENGINE_CLI_PROGRAM_TESTING_H_
#define HAVEN_ENGINE_CLI_PROGRAM_TESTING_H_

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/control_testing.h"
#include "engine/control/group_record.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {

inline constexpr char kProgram[] = "engine/cli/haven-engine";
inline constexpr int kDeadlineMs = 20'000;

using Words = std::vector<std::string>;

// One haven-engine, killed with its object.
class Program {
 public:
  Program(const Words& words, std::string output) : output_(std::move(output)) {
    std::vector<char*> arguments = {const_cast<char*>(kProgram)};
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const UniqueFd file(open(output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    pid_ = fork();
    HAVEN_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(file.get(), 1);
      dup2(file.get(), 2);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  }
  ~Program() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The exit code; -1: a signal ended it, or the deadline passed.
  int Wait() {
    pollfd one = {pidfd_.get(), POLLIN, 0};
    if (poll(&one, 1, kDeadlineMs) <= 0) return -1;
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void Terminate() const { kill(pid_, SIGTERM); }
  std::string Output() const {
    std::ifstream file(output_);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  const std::string output_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

// A folder for one node, with a file arbiter and a place for a backup.
class ProgramTest : public testing::Test {
 protected:
  ProgramTest() {
    std::filesystem::create_directory(folder_.File("arbiter"));
    HAVEN_CHECK_OK(WriteFileAtomically(folder_.File("arbiter/haven-arbiter"), ""));
  }
  // No process that has to do with this test's folder.
  ~ProgramTest() override {
    EXPECT_TRUE(WaitFor([this] { return Processes().empty(); }));
  }

  std::unique_ptr<Program> Start(const Words& words) {
    return std::make_unique<Program>(words, folder_.File(absl::StrCat("output", ++programs_)));
  }
  void Expect(const Words& words, int code, const std::string& message) {
    const std::unique_ptr<Program> program = Start(words);
    EXPECT_EQ(program->Wait(), code) << absl::StrCat(words.empty() ? "" : words[0]);
    EXPECT_THAT(program->Output(), testing::HasSubstr(message));
  }
  int Run(const Words& words) { return Start(words)->Wait(); }

  std::string Arbiter() const { return absl::StrCat("--arbiter=file:", folder_.File("arbiter")); }
  std::string Directory() const { return absl::StrCat("--directory=", folder_.File("a")); }
  std::string Address() const { return absl::StrCat("unix:", folder_.File("b.sock")); }
  Words Protect(const Words& more = {}) const {
    Words words = {"protect", "synthetic:name=g1,mem=1M", Directory(), "--node=a", Arbiter()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string Backup() const { return absl::StrCat("--backup=", Address()); }
  std::vector<pid_t> Processes() const {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      pid_t pid = 0;
      if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
      std::ifstream file(entry.path() / "cmdline");
      std::ostringstream text;
      text << file.rdbuf();
      if (text.str().find(folder_.path().string()) != std::string::npos) found.push_back(pid);
    }
    return found;
  }
  // Of the synthetic guest g1; checked to be there.
  pid_t GuestPid() {
    const std::unique_ptr<Program> show = Start({"synthetic", "show", "g1", Directory()});
    HAVEN_CHECK_EQ(show->Wait(), 0) << show->Output();
    const std::string text = show->Output();
    pid_t guest = 0;
    HAVEN_CHECK(absl::SimpleAtoi(text.substr(4, text.find(' ') - 4), &guest)) << text;
    return guest;
  }
  bool GuestIsThere() { return Run({"synthetic", "show", "g1", Directory()}) == 0; }
  bool IsUnprotected() { return Run({"status", "g1", "--check", Directory()}) == 4; }

  const ShortFolder folder_;
  const GroupDirectory node_{folder_.File("a")};
  int programs_ = 0;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CLI_PROGRAM_TESTING_H_
