// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/synthetic_replica.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/synthetic/guest_socket.h"
#include "engine/synthetic/operator.h"
#include "engine/synthetic/packet_log.h"
#include "engine/synthetic/report.h"
#include "engine/synthetic/synthetic_domain.h"
#include "engine/synthetic/synthetic_output.h"
#include "engine/synthetic/testing.h"
#include "engine/synthetic/verify.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

// A protected guest and its copy, with a replication made by hand.
class SyntheticReplicaTest : public GuestTest {
 protected:
  SyntheticReplicaTest() {
    backup_ = Launch();
    backup_.runtime_dir = PathOf("backup");
    EXPECT_EQ(mkdir(backup_.runtime_dir.c_str(), 0700), 0);
  }

  ~SyntheticReplicaTest() override {
    if (original_ == nullptr) return;
    EXPECT_TRUE(original_->Kill().ok());
  }

  void Protect(const std::string& text, const std::string& overrides) {
    spec_ = *ParseSyntheticSpec(text);
    ASSERT_TRUE(StartSyntheticGuest(Launch(), spec_).ok());
    original_ = *SyntheticConnection::Attach(dir_, spec_.name);
    domain_ = std::make_unique<SyntheticDomain>(original_);
    suspend_ = *SyntheticSuspend::Create(original_);
    output_ = std::make_unique<SyntheticOutput>(std::vector{original_});
    absl::StatusOr<std::unique_ptr<SyntheticReplica>> replica =
        SyntheticReplica::Create(backup_, domain_->info().config, overrides);
    ASSERT_TRUE(replica.ok()) << replica.status();
    replica_ = *std::move(replica);
    ASSERT_TRUE(output_->Hold().ok());
    ASSERT_TRUE(domain_->EnableLogDirty().ok());
    dirty_.assign(domain_->memory().bitmap_words(), ~uint64_t{0});
  }

  // One epoch, applied at once. Its output stays with the caller.
  void Epoch() {
    ASSERT_TRUE(suspend_->Request().ok());
    ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kSuspended));
    ASSERT_TRUE(output_->Barrier().ok());
    ASSERT_TRUE(domain_->FetchAndClearDirty(dirty_).ok());
    state_.resize(domain_->max_state_bytes());
    state_.resize(*domain_->CaptureState(state_));
    const GuestMemory& from = domain_->memory();
    const GuestMemory& to = replica_->memory();
    for (Gfn gfn = 0; gfn < from.page_count(); ++gfn) {
      if (!from.IsRam(gfn) || ((dirty_[gfn / 64] >> (gfn % 64)) & 1) == 0) continue;
      std::copy_n(from.Page(gfn), kPageBytes, to.Page(gfn));
    }
    std::fill(dirty_.begin(), dirty_.end(), 0);
    ASSERT_TRUE(suspend_->Resume().ok());
    ASSERT_TRUE(replica_->CheckState(state_).ok());
  }

  // Lets the original go on for a while.
  void GoOn() {
    const uint64_t writes = QuerySyntheticGuest(dir_, spec_.name)->writes[0];
    ASSERT_TRUE(Eventually(
        [&] { return QuerySyntheticGuest(dir_, spec_.name)->writes[0] > writes + 100; }));
  }

  SyntheticReport Report() {
    const auto report = ReadSyntheticReport(SyntheticReportPath(backup_.runtime_dir, spec_.name));
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : SyntheticReport();
  }

  void DestroyPromoted() {
    const auto promoted = SyntheticConnection::Attach(backup_.runtime_dir, spec_.name);
    ASSERT_TRUE(promoted.ok()) << promoted.status();
    EXPECT_TRUE((*promoted)->Kill().ok());
  }

  SyntheticSpec spec_;
  SyntheticLaunch backup_;
  std::shared_ptr<SyntheticConnection> original_;
  std::unique_ptr<SyntheticDomain> domain_;
  std::unique_ptr<SyntheticSuspend> suspend_;
  std::unique_ptr<SyntheticOutput> output_;
  std::unique_ptr<SyntheticReplica> replica_;
  std::vector<uint64_t> dirty_;
  std::vector<std::byte> state_;
};

TEST_F(SyntheticReplicaTest, APromotedCopyProvesItselfEqualAndTheWorldSeesOneHistory) {
  const std::string log = PathOf("log");
  Protect("synthetic:mem=4M,vcpus=2,dirty=20000,block=512,output=1000,log=" + log, "");
  for (int epoch = 0; epoch < 5; ++epoch) {
    Epoch();
    ASSERT_TRUE(output_->ReleaseOne().ok());
    GoOn();
  }
  Epoch();
  GoOn();
  // The last epoch is committed, but its output has not left when the primary dies.
  ASSERT_EQ(kill(original_->pid(), SIGKILL), 0);
  ASSERT_TRUE(AwaitState(*suspend_, SuspendMethod::State::kGone));
  ASSERT_TRUE(replica_->Prepare(state_).ok());
  const SyntheticReport report = Report();
  EXPECT_EQ(report.verdict, SyntheticReport::Verdict::kEqual) << report.finding;
  EXPECT_EQ(report.state, *DecodeSyntheticState(spec_, state_));
  EXPECT_EQ(report.state.stops, 6u);
  ASSERT_TRUE(replica_->Run().ok());
  EXPECT_TRUE(Eventually([&] {
    const auto info = QuerySyntheticGuest(backup_.runtime_dir, spec_.name);
    return info.ok() && info->released_packets > 10 &&
           info->writes[1] > report.state.vcpus[1].writes;
  }));
  EXPECT_EQ(QuerySyntheticGuest(backup_.runtime_dir, spec_.name)->gate, GateMode::kAbsent);
  DestroyPromoted();

  uint64_t last_old = 0;
  uint64_t last_new = report.state.next_sequence - 1;
  const std::vector<SyntheticPacket> packets = *ReadPacketLog(log);
  for (const SyntheticPacket& packet : packets) {
    if (packet.generation == 1) {
      EXPECT_EQ(packet.sequence, ++last_old);
      EXPECT_EQ(last_new, report.state.next_sequence - 1) << "none of the old after the new";
      EXPECT_LT(packet.sequence, report.state.next_sequence) << "nothing beyond the promoted epoch";
      EXPECT_LE(packet.writes, report.state.vcpus[packet.vcpu].writes);
    } else {
      EXPECT_EQ(packet.generation, 2u);
      EXPECT_EQ(packet.sequence, ++last_new) << "it goes on where the epoch ended";
      EXPECT_GE(packet.writes, report.state.vcpus[packet.vcpu].writes);
    }
  }
  EXPECT_GT(last_old, 0u);
  EXPECT_GT(last_new, report.state.next_sequence);
}

TEST_F(SyntheticReplicaTest, APromotedCopyCanBeProtectedAnew) {
  Protect("synthetic:mem=1M,dirty=10000", "verify=1");
  Epoch();
  ASSERT_TRUE(replica_->Prepare(state_).ok());
  ASSERT_TRUE(replica_->Run().ok());
  const auto attached = SyntheticConnection::Attach(backup_.runtime_dir, spec_.name);
  ASSERT_TRUE(attached.ok()) << attached.status();
  SyntheticDomain promoted(*attached);
  EXPECT_EQ(promoted.info().uuid, domain_->info().uuid);
  const auto suspend = *SyntheticSuspend::Create(*attached);
  ASSERT_TRUE(suspend->Request().ok());
  ASSERT_TRUE(AwaitState(*suspend, SuspendMethod::State::kSuspended));
  std::vector<std::byte> record(promoted.max_state_bytes());
  ASSERT_TRUE(promoted.CaptureState(record).ok());
  const SyntheticState state = *DecodeSyntheticState(spec_, record);
  EXPECT_EQ(state.generation, 2u);
  EXPECT_TRUE(VerifySyntheticImage(spec_, promoted.memory(), state).ok());
  EXPECT_TRUE(promoted.Destroy().ok());
}

TEST_F(SyntheticReplicaTest, ACopyThatDiffersByOneBitRefusesToRun) {
  Protect("synthetic:mem=1M,dirty=10000,fill=1", "");
  Epoch();
  replica_->memory().Page(3)[100] ^= std::byte{0x10};
  const absl::Status prepared = replica_->Prepare(state_);
  EXPECT_EQ(prepared.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(prepared.message()), HasSubstr("frame 3"));
  EXPECT_EQ(Report().verdict, SyntheticReport::Verdict::kDifferent);
  EXPECT_THAT(Report().finding, HasSubstr("frame 3"));
  EXPECT_FALSE(replica_->Run().ok());
  EXPECT_TRUE(replica_->Abandon().ok());
}

TEST_F(SyntheticReplicaTest, MixedEpochsAreFound) {
  Protect("synthetic:mem=1M,dirty=50000", "");
  Epoch();
  const std::vector<std::byte> first = state_;
  GoOn();
  Epoch();
  EXPECT_FALSE(replica_->Prepare(first).ok()) << "new memory, old state";
  EXPECT_TRUE(replica_->Prepare(state_).ok());
  EXPECT_FALSE(replica_->Prepare(state_).ok()) << "it has its state";
}

TEST_F(SyntheticReplicaTest, WithoutVerificationNothingIsProved) {
  Protect("synthetic:mem=1M,dirty=10000,fill=1", "verify=0");
  Epoch();
  replica_->memory().Page(3)[100] ^= std::byte{0x10};
  EXPECT_TRUE(replica_->Prepare(state_).ok());
  EXPECT_EQ(Report().verdict, SyntheticReport::Verdict::kNotChecked);
}

TEST_F(SyntheticReplicaTest, TheLogOfTheOtherHostIsUsed) {
  const std::string log = PathOf("backup_log");
  Protect("synthetic:mem=1M,output=1000,log=" + PathOf("log"), "log=" + log);
  Epoch();
  ASSERT_TRUE(replica_->Prepare(state_).ok());
  ASSERT_TRUE(replica_->Run().ok());
  EXPECT_TRUE(Eventually([&] { return !ReadPacketLog(log)->empty(); }));
  DestroyPromoted();
}

TEST_F(SyntheticReplicaTest, StatesThatAreNotOnesOfThisGuestAreRefused) {
  Protect("synthetic:mem=1M", "");
  Epoch();
  std::vector<std::byte> bad = state_;
  bad[20] ^= std::byte{1};
  EXPECT_EQ(replica_->CheckState(bad).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(replica_->CheckState({}).code(), absl::StatusCode::kInvalidArgument);
  bad = state_;
  bad.push_back(std::byte{0});
  EXPECT_EQ(replica_->CheckState(bad).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(replica_->Prepare(bad).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(replica_->Run().code(), absl::StatusCode::kFailedPrecondition) << "it has no state";
}

TEST_F(SyntheticReplicaTest, AWaitingCopyCanNotBeAttachedOrEnded) {
  Protect("synthetic:mem=1M", "");
  const auto info = QuerySyntheticGuest(backup_.runtime_dir, spec_.name);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_TRUE(info->waiting);
  EXPECT_EQ(info->writes[0], 0u);
  EXPECT_EQ(SyntheticConnection::Attach(backup_.runtime_dir, spec_.name).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EndSyntheticGuest(backup_.runtime_dir, spec_.name, DomainEnd::kShutdown).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(SyntheticReplicaTest, AnAbandonedCopyIsGone) {
  Protect("synthetic:mem=1M", "");
  ASSERT_TRUE(replica_->Abandon().ok());
  EXPECT_EQ(QuerySyntheticGuest(backup_.runtime_dir, spec_.name).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(replica_->Abandon().ok());
  EXPECT_FALSE(replica_->Prepare(state_).ok());
}

TEST_F(SyntheticReplicaTest, ACopyThatWasLetRunIsNotAbandoned) {
  Protect("synthetic:mem=1M", "");
  Epoch();
  ASSERT_TRUE(replica_->Prepare(state_).ok());
  ASSERT_TRUE(replica_->Run().ok());
  EXPECT_EQ(replica_->Abandon().code(), absl::StatusCode::kFailedPrecondition);
  replica_.reset();
  EXPECT_TRUE(QuerySyntheticGuest(backup_.runtime_dir, spec_.name).ok());
  DestroyPromoted();
}

TEST_F(SyntheticReplicaTest, BadDescriptionsAreRefusedBeforeAnythingIsStarted) {
  EXPECT_EQ(SyntheticReplica::Create(backup_, "xen:web", "").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SyntheticReplica::Create(backup_, "synthetic", "mem=1G").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(NoProcessLeft());
}

// The session's process, killed at the stages of a copy's life.
TEST_F(SyntheticReplicaTest, ACopyEndsWithItsSessionsProcessUnlessItRuns) {
  Protect("synthetic:mem=1M", "");
  Epoch();
  replica_.reset();
  for (int stage = 0; stage < 3; ++stage) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t session = fork();
    if (session == 0) {
      auto replica = SyntheticReplica::Create(backup_, FormatSyntheticSpec(spec_), "verify=0");
      if (!replica.ok()) _exit(1);
      if (stage >= 1 && !(*replica)->Prepare(state_).ok()) _exit(2);
      if (stage >= 2 && !(*replica)->Run().ok()) _exit(3);
      if (write(ready[1], "r", 1) != 1) _exit(4);
      while (true) pause();
    }
    close(ready[1]);
    char byte;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    ASSERT_EQ(kill(session, SIGKILL), 0);
    ASSERT_EQ(waitpid(session, nullptr, 0), session);
    if (stage == 2) {
      EXPECT_TRUE(QuerySyntheticGuest(backup_.runtime_dir, spec_.name).ok()) << "it runs on";
      DestroyPromoted();
    } else {
      EXPECT_TRUE(Eventually([&] {
        return absl::IsNotFound(QuerySyntheticGuest(backup_.runtime_dir, spec_.name).status());
      })) << stage;
    }
  }
}

// From Outlive() on it waits for whoever comes next.
TEST_F(SyntheticReplicaTest, ACopyThatWasToldSoOutlivesItsSessionsProcess) {
  Protect("synthetic:mem=1M", "");
  Epoch();
  replica_.reset();
  for (const bool run : {true, false}) {
    const pid_t session = fork();
    if (session == 0) {
      auto replica = SyntheticReplica::Create(backup_, FormatSyntheticSpec(spec_), "verify=0");
      if (!replica.ok() || !(*replica)->Prepare(state_).ok() || !(*replica)->Outlive().ok()) {
        _exit(1);
      }
      raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(session, &status, 0), session);
    ASSERT_TRUE(WIFSIGNALED(status));
    auto left = SyntheticConnection::Attach(backup_.runtime_dir, spec_.name);
    ASSERT_TRUE(left.ok()) << left.status();
    SyntheticDomain domain(*left);
    // What a guard does to any guest before it knows what the register says.
    const auto suspend = *SyntheticSuspend::Create(*left);
    EXPECT_TRUE(suspend->Resume().ok());
    EXPECT_TRUE(suspend->Request().ok());
    SyntheticOutput output({*left});
    EXPECT_TRUE(output.OpenAll().ok());
    EXPECT_TRUE(QuerySyntheticGuest(backup_.runtime_dir, spec_.name)->waiting);
    if (run) {
      EXPECT_TRUE(domain.LetRun().ok());
      EXPECT_TRUE(domain.LetRun().ok()) << "idempotent";
      const uint64_t writes = QuerySyntheticGuest(backup_.runtime_dir, spec_.name)->writes[0];
      EXPECT_TRUE(Eventually([&] {
        return QuerySyntheticGuest(backup_.runtime_dir, spec_.name)->writes[0] > writes;
      }));
    }
    EXPECT_TRUE(domain.Destroy().ok());
  }
}

}  // namespace
}  // namespace haven
