// SPDX-License-Identifier: Apache-2.0
//
// An engine and a backup, each in threads of this process.
#ifndef HAVEN_ENGINE_CONTROL_PROCESS_PAIR_TESTING_H_
#define HAVEN_ENGINE_CONTROL_PROCESS_PAIR_TESTING_H_

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/control/cancel.h"
#include "engine/control/control_testing.h"
#include "engine/control/engine_loop.h"
#include "engine/control/session_loop.h"

namespace haven {

inline constexpr char kTestGroup[] = "web";

// Times that let a test be quick and a loaded machine be slow.
EngineOptions TestEngineOptions(const std::string& backup_address);
SessionOptions TestSessionOptions();

// Runs an EngineLoop.
class TestEngine {
 public:
  TestEngine(const EngineOptions& options, const EngineSeams& seams,
             const std::optional<Register>& current = std::nullopt);
  // Stops it if it still runs.
  ~TestEngine();

  EngineLoop& loop() { return *loop_; }
  // An empty snapshot if the loop has ended.
  StatusSnapshot Status();
  bool Reaches(const std::string& state);
  // Waits for the loop's own end.
  EngineResult Join();
  // Ends the loop as it is, and everything of it.
  void Destroy();

 private:
  std::unique_ptr<EngineLoop> loop_;
  EngineResult result_;
  std::thread thread_;
};

// Accepts connections at an address and runs a SessionLoop for each that becomes a session; a
// second one for a group that is served is refused.
class PairBackup {
 public:
  PairBackup(Transport& transport, const std::string& address, const SessionOptions& options,
             ReplicaFactory& factory, std::shared_ptr<Arbiter> arbiter);
  // Stops the sessions that still run.
  ~PairBackup();

  // One connection's fate.
  struct Session {
    absl::Status status;  // Of SessionLoop::Create.
    std::unique_ptr<SessionLoop> loop;
    std::optional<SessionResult> result;
    std::thread thread;
  };

  // Sessions that came about so far.
  size_t sessions();
  // The newest of them; there is one.
  SessionLoop& newest();
  std::optional<SessionResult> newest_result();
  StatusSnapshot Status();
  bool Reaches(const std::string& state);
  // Refusals and failures so far.
  size_t failures();

 private:
  void Serve();
  void RunSession(Session* session, int connection);
  std::optional<Refuse> Admit(const Hello& hello);

  Transport& transport_;
  const std::unique_ptr<Listener> listener_;
  SessionOptions options_;
  ReplicaFactory& factory_;
  const std::shared_ptr<Arbiter> arbiter_;
  const std::shared_ptr<Cancel> stop_;
  std::mutex mutex_;
  std::list<Session> all_;
  std::vector<Session*> running_;  // That came about.
  size_t failures_ = 0;
  std::thread thread_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_PROCESS_PAIR_TESTING_H_
