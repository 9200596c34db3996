// SPDX-License-Identifier: Apache-2.0
//
// The shm fabric against the copying that it can not avoid, and the time that a word takes to the
// other side and back.
//
// Throughput: one thread, source and target of 64 MiB (larger than the caches of most processors)
// walked through in steps of the write's size, so that every byte comes from and goes to memory.
// The target is a memfd that another mapping shares, in all three variants:
//   Memcpy         plain copies of that size
//   PostWrite      one signaled request per PostWrites, each polled
//   PostWriteList  lists of 32 requests, the last one signaled
// Round trip: eight bytes of data with an immediate there, and the same back; the other side is a
// process (or a thread) that polls without sleeping, or sleeps on its event.
#include <benchmark/benchmark.h>
#include <poll.h>
#include <sched.h>

#include <array>
#include <cstring>
#include <thread>
#include <utility>

#include "engine/base/check.h"
#include "transport/shm/deadline.h"
#include "transport/shm/testing/forked_peer.h"
#include "transport/shm/testing/shm_pair.h"
#include "transport/shm/testing/shm_session.h"

namespace haven {
namespace {

constexpr size_t kRegionBytes = size_t{64} << 20;
constexpr size_t kListLength = 32;
constexpr uint32_t kWordBytes = 8;
constexpr uint64_t kWordRegionBytes = 4096;

// The region's offset for the n-th write of a walk through it.
uint64_t OffsetOf(uint64_t n, uint32_t bytes) { return n * bytes % kRegionBytes; }

// One per process: preparing and faulting in 192 MiB takes longer than most of the measurements.
EndpointPair& SharedPair() {
  static EndpointPair& pair = *new EndpointPair(kRegionBytes);
  return pair;
}

WriteRequest RequestAt(uint64_t n, uint32_t bytes, bool signaled) {
  EndpointPair& pair = SharedPair();
  return {.id = n,
          .local_region = pair.source.id,
          .local_offset = OffsetOf(n, bytes),
          .remote = pair.journal_remote,
          .remote_offset = OffsetOf(n, bytes),
          .bytes = bytes,
          .signaled = signaled};
}

void CountBytes(benchmark::State& state, uint64_t writes) {
  state.SetBytesProcessed(static_cast<int64_t>(writes) * state.range(0));
}

void BM_Memcpy(benchmark::State& state) {
  EndpointPair& pair = SharedPair();
  const auto bytes = static_cast<uint32_t>(state.range(0));
  uint64_t n = 0;
  for (auto _ : state) {
    const uint64_t offset = OffsetOf(n++, bytes);
    std::memcpy(pair.journal.bytes.data() + offset, pair.source.bytes.data() + offset, bytes);
    benchmark::ClobberMemory();
  }
  CountBytes(state, n);
}

void BM_PostWrite(benchmark::State& state) {
  EndpointPair& pair = SharedPair();
  const auto bytes = static_cast<uint32_t>(state.range(0));
  std::array<Completion, 4> done;
  uint64_t n = 0;
  for (auto _ : state) {
    const WriteRequest request = RequestAt(n++, bytes, true);
    HAVEN_CHECK_OK(pair.to_backup->PostWrites({&request, 1}));
    HAVEN_CHECK_EQ(pair.to_backup->Poll(done), 1u);
  }
  CountBytes(state, n);
}

void BM_PostWriteList(benchmark::State& state) {
  EndpointPair& pair = SharedPair();
  const auto bytes = static_cast<uint32_t>(state.range(0));
  std::array<Completion, 4> done;
  std::array<WriteRequest, kListLength> list;
  uint64_t n = 0;
  for (auto _ : state) {
    for (size_t i = 0; i < kListLength; ++i) {
      list[i] = RequestAt(n++, bytes, i + 1 == kListLength);
    }
    HAVEN_CHECK_OK(pair.to_backup->PostWrites(list));
    HAVEN_CHECK_EQ(pair.to_backup->Poll(done), 1u);
  }
  CountBytes(state, n);
}

void Sizes(benchmark::internal::Benchmark* b) { b->RangeMultiplier(4)->Range(4 << 10, 1 << 20); }
BENCHMARK(BM_Memcpy)->Apply(Sizes);
BENCHMARK(BM_PostWrite)->Apply(Sizes);
BENCHMARK(BM_PostWriteList)->Apply(Sizes);

enum class Waiting : int64_t { kPolling = 0, kSleeping = 1 };

// The next immediate, or a failure.
Completion Next(Link& link, Waiting waiting) {
  std::array<Completion, 1> got;
  for (;;) {
    if (link.Poll(got) == 1) return got[0];
    if (waiting == Waiting::kPolling) {
      // With one processor the other side could otherwise never answer.
      sched_yield();
      continue;
    }
    if (!link.ArmEvent().ok()) return {.result = CompletionResult::kOther};
    if (link.Poll(got) == 1) return got[0];
    const auto ready = WaitForFd(link.event_fd(), POLLIN, ShmDeadline(kTestTimeout));
    HAVEN_CHECK(ready.ok() && *ready) << "the other side is silent";
  }
}

// One side of a round trip.
struct Player {
  Link* link;
  WriteRequest word;  // Eight bytes with an immediate.
};

Player MakePlayer(Link& link, const LocalRegion& from, const RemoteRegion& to) {
  return {
      .link = &link,
      .word = {.local_region = from.id, .remote = to, .bytes = kWordBytes, .has_immediate = true}};
}

// Answers until the other side is gone.
void Echo(const Player& player, Waiting waiting) {
  while (Next(*player.link, waiting).result == CompletionResult::kOk) {
    if (!player.link->PostReceives(1).ok()) return;
    if (!player.link->PostWrites({&player.word, 1}).ok()) return;
  }
}

void PlayRounds(benchmark::State& state, const Player& player, Waiting waiting) {
  for (auto _ : state) {
    HAVEN_CHECK_OK(player.link->PostWrites({&player.word, 1}));
    HAVEN_CHECK(Next(*player.link, waiting).result == CompletionResult::kOk);
    HAVEN_CHECK_OK(player.link->PostReceives(1));
  }
}

// Tells the other side that this one has posted its receive, and waits for the same.
void StartTogether(ShmSession& session) {
  HAVEN_CHECK_OK(session.link->PostReceives(1));
  HAVEN_CHECK_OK(SendText(*session.channel, "ready"));
  HAVEN_CHECK_OK(ReceiveText(*session.channel));
}

void BM_RoundTripProcesses(benchmark::State& state) {
  const auto waiting = static_cast<Waiting>(state.range(0));
  SocketPair sockets;
  ForkedPeer other([&] {
    sockets.acceptor.reset();
    ShmSession session = MakePrimary(
        *OpenChannel(std::move(sockets.connector), HandshakeSide::kConnector), kWordRegionBytes);
    StartTogether(session);
    Echo(MakePlayer(*session.link, session.source, session.peer_area), waiting);
    return 0;
  });
  sockets.connector.reset();
  ShmSession session = MakeBackup(
      *OpenChannel(std::move(sockets.acceptor), HandshakeSide::kAcceptor), kWordRegionBytes);
  StartTogether(session);
  PlayRounds(state, MakePlayer(*session.link, session.source, session.peer_area), waiting);
}

void BM_RoundTripThreads(benchmark::State& state) {
  const auto waiting = static_cast<Waiting>(state.range(0));
  EndpointPair pair(kWordRegionBytes);
  HAVEN_CHECK_OK(pair.to_backup->PostReceives(1));
  HAVEN_CHECK_OK(pair.to_primary->PostReceives(1));
  std::thread other(
      [&] { Echo(MakePlayer(*pair.to_primary, pair.journal, pair.peer_block_remote), waiting); });
  PlayRounds(state, MakePlayer(*pair.to_backup, pair.source, pair.journal_remote), waiting);
  pair.to_backup.reset();
  other.join();
}

void HowToWait(benchmark::internal::Benchmark* b) {
  b->ArgName("sleeping")->Arg(0)->Arg(1)->UseRealTime();
}
BENCHMARK(BM_RoundTripProcesses)->Apply(HowToWait);
BENCHMARK(BM_RoundTripThreads)->Apply(HowToWait);

}  // namespace
}  // namespace haven

// The helpers for tests that are used here bring GoogleTest's main along.
BENCHMARK_MAIN();
