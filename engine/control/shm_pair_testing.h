// SPDX-License-Identifier: Apache-2.0
//
// What tests of an engine and its backup over shared memory begin with.
#ifndef HAVEN_ENGINE_CONTROL_SHM_PAIR_TESTING_H_
#define HAVEN_ENGINE_CONTROL_SHM_PAIR_TESTING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/short_folder_testing.h"
#include "engine/control/faulty_transport_testing.h"
#include "engine/control/process_pair_testing.h"
#include "transport/shm/shm_transport.h"

namespace haven {

// The base of a fixture: a guest, both sides' options and seams, and neither side started. Faults
// can be set on either side's transport.
class ShmPair {
 protected:
  static constexpr uint64_t kPages = 300;

  ShmPair() { backup_faults_.revoke_by_word = true; }

  void StartBackup();
  void StartEngine(const std::optional<Register>& current = std::nullopt);
  void Start() {
    StartBackup();
    StartEngine();
  }
  EngineSeams Seams();

  // Output of epochs that were committed from now on has left.
  bool ReleasesMore(uint64_t steps = 20);
  bool IsPromoted();
  // The backup's copy is what the guest was at the step that its state names.
  void ExpectWholePromotion();

  ShortFolder folder_;
  const std::string address_ = "unix:" + folder_.File("backup.sock");
  ShmTransport shm_;
  TransportFaults engine_faults_;
  TransportFaults backup_faults_;
  FaultyTransport engine_transport_{shm_, engine_faults_};
  FaultyTransport backup_transport_{shm_, backup_faults_};
  const std::shared_ptr<TestArbiter> arbiter_ = std::make_shared<TestArbiter>();
  TestReplicaFactory factory_;
  TestWire wire_;
  TestGuest guest_{"g1", kPages, wire_};
  EngineOptions engine_options_ = TestEngineOptions(address_);
  SessionOptions session_options_ = TestSessionOptions();
  std::optional<PairBackup> backup_;
  std::optional<TestEngine> engine_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_SHM_PAIR_TESTING_H_
