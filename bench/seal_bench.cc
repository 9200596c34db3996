// SPDX-License-Identifier: Apache-2.0
//
// What sealing costs on both sides, against AES-256-GCM of the same bytes by OpenSSL alone and
// against what the same chunks cost in plain. All in turn, in the same run, each on bytes that are
// not in the cache.
//
//   chunks    of an epoch, each a slot of 256 KiB
//   threads   threads that seal, the caller among them
#include <benchmark/benchmark.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/crc32c.h"
#include "engine/base/random.h"
#include "engine/primary/copy_pool.h"
#include "engine/primary/seal_stage.h"
#include "engine/replica/chunk.h"
#include "engine/replica/chunk_seal.h"
#include "engine/replica/layout.h"

namespace haven {
namespace {

constexpr uint32_t kSlotBytes = kDefaultSlotBytes;
constexpr uint32_t kPayloadBytes = kSlotBytes - kChunkHeaderBytes;
// Epochs in turn: several times the last-level cache.
constexpr uint64_t kColdBytes = uint64_t{256} << 20;
constexpr SealKey kKey = {std::byte{1}};

using Clock = std::chrono::steady_clock;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

unsigned char* Raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

// AES-256-GCM and nothing else: no header, no nonce of ours, no copy.
class BareCipher {
 public:
  explicit BareCipher(bool encrypt) : context_(EVP_CIPHER_CTX_new()) {
    std::array<unsigned char, kSealKeyBytes> key = {};
    HAVEN_CHECK_EQ(EVP_CipherInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr, key.data(),
                                     nullptr, encrypt ? 1 : 0),
                   1);
  }

  void Run(std::span<std::byte> bytes) {
    constexpr std::array<unsigned char, 12> kNonce = {};
    int done = 0;
    HAVEN_CHECK_EQ(EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, kNonce.data(), -1),
                   1);
    HAVEN_CHECK_EQ(EVP_CipherUpdate(context_.get(), Raw(bytes.data()), &done, Raw(bytes.data()),
                                    static_cast<int>(bytes.size())),
                   1);
  }

 private:
  CipherContext context_;
};

// Slots of several epochs.
class Slots {
 public:
  explicit Slots(uint32_t chunks)
      : chunks_(chunks),
        epochs_(std::max<uint64_t>(kColdBytes / (uint64_t{chunks} * kSlotBytes), 4)),
        bytes_(epochs_ * chunks * kSlotBytes) {
    Random random(1);
    random.Fill(bytes_);
  }

  // Of the epoch in whose turn it is, and of one that is as cold.
  std::span<std::byte> Slot(uint32_t index) { return At(epoch_ % epochs_, index); }
  std::span<std::byte> OtherSlot(uint32_t index) { return At((epoch_ + 1) % epochs_, index); }
  // No memory of an epoch comes again soon.
  Epoch Next() { return epoch_ += 2; }

  // What a chunk in plain costs at this point.
  uint32_t Plain(uint32_t index) {
    const std::span<std::byte> slot = Slot(index);
    return EncodeChunkHeader(
        {.identity = {.session = 1, .link = 1, .epoch = epoch_, .index = index},
         .payload_bytes = kPayloadBytes,
         .frame_count = 1,
         .payload_crc = Crc32c(slot.subspan(kChunkHeaderBytes))},
        slot.first<kChunkHeaderBytes>());
  }

 private:
  std::span<std::byte> At(uint64_t epoch, uint32_t index) {
    return std::span(bytes_).subspan((epoch * chunks_ + index) * kSlotBytes, kSlotBytes);
  }

  const uint32_t chunks_;
  const uint64_t epochs_;
  std::vector<std::byte> bytes_;
  Epoch epoch_ = 0;
};

// Rates of three ways with the same bytes, and the ratios of each iteration.
class Rates {
 public:
  explicit Rates(uint32_t chunks) : bytes_(uint64_t{chunks} * kPayloadBytes) {}

  void Add(Clock::time_point start, Clock::time_point plain, Clock::time_point sealed,
           Clock::time_point end) {
    plain_.push_back(Rate(start, plain));
    sealed_.push_back(Rate(plain, sealed));
    bare_.push_back(Rate(sealed, end));
    to_bare_.push_back(sealed_.back() / bare_.back());
  }

  void Report(benchmark::State& state, const char* sealed) const {
    state.SetBytesProcessed(static_cast<int64_t>(bytes_ * state.iterations()));
    state.counters["crc_GBps"] = Median(plain_);
    state.counters[sealed] = Median(sealed_);
    state.counters["gcm_GBps"] = Median(bare_);
    state.counters["ratio"] = Median(to_bare_);
    state.SetLabel("slots 256 KiB");
  }

 private:
  double Rate(Clock::time_point from, Clock::time_point to) const {
    return static_cast<double>(bytes_) /
           std::chrono::duration<double, std::nano>(to - from).count();
  }

  const uint64_t bytes_;
  std::vector<double> plain_;
  std::vector<double> sealed_;
  std::vector<double> bare_;
  std::vector<double> to_bare_;
};

void BM_Seal(benchmark::State& state) {
  const uint32_t chunks = static_cast<uint32_t>(state.range(0));
  const unsigned workers = static_cast<unsigned>(state.range(1)) - 1;
  CopyPool pool(workers);
  auto stage = SealStage::Create(kKey, workers);
  HAVEN_CHECK_OK(stage);
  Slots slots(chunks);
  std::vector<ChunkTotals> totals(chunks);
  Rates rates(chunks);
  for (auto _ : state) {
    const Epoch epoch = slots.Next();
    const Clock::time_point start = Clock::now();
    pool.Run(chunks, [&](uint32_t i) { totals[i].chunk_crc = slots.Plain(i); });
    const Clock::time_point plain = Clock::now();
    (*stage)->Seal(
        epoch, totals, [&](uint32_t i) { return slots.Slot(i); }, pool);
    const Clock::time_point sealed = Clock::now();
    pool.Run(chunks, [&](uint32_t i) {
      thread_local BareCipher cipher(/*encrypt=*/true);
      cipher.Run(slots.OtherSlot(i).subspan(kChunkHeaderBytes));
    });
    rates.Add(start, plain, sealed, Clock::now());
    state.SetIterationTime(std::chrono::duration<double>(sealed - plain).count());
  }
  rates.Report(state, "seal_GBps");
}
BENCHMARK(BM_Seal)
    ->ArgNames({"chunks", "threads"})
    ->ArgsProduct({{4, 64, 256}, {1, 2}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// What the backup does instead of a CRC, on the thread that verifies.
void BM_Open(benchmark::State& state) {
  const uint32_t chunks = static_cast<uint32_t>(state.range(0));
  auto sealer = ChunkSealer::Create(kKey);
  auto opener = ChunkOpener::Create(kKey, kSlotBytes);
  HAVEN_CHECK_OK(sealer);
  HAVEN_CHECK_OK(opener);
  BareCipher bare(/*encrypt=*/false);
  Slots slots(chunks);
  std::vector<ChunkHeader> headers(chunks);
  Rates rates(chunks);
  for (auto _ : state) {
    slots.Next();
    for (uint32_t i = 0; i < chunks; ++i) {
      slots.Plain(i);
      uint32_t crc = 0;
      (*sealer)->Seal(slots.Slot(i));
      HAVEN_CHECK_OK(DecodeChunkHeader(slots.Slot(i), &headers[i], &crc));
    }
    const Clock::time_point start = Clock::now();
    uint32_t crc = 0;
    for (uint32_t i = 0; i < chunks; ++i)
      crc ^= Crc32c(ChunkPayload(slots.OtherSlot(i), headers[i]));
    benchmark::DoNotOptimize(crc);
    const Clock::time_point plain = Clock::now();
    for (uint32_t i = 0; i < chunks; ++i) {
      HAVEN_CHECK_OK((*opener)->Open(headers[i], ChunkPayload(slots.Slot(i), headers[i])).status());
    }
    const Clock::time_point opened = Clock::now();
    for (uint32_t i = 0; i < chunks; ++i) bare.Run(slots.OtherSlot(i).subspan(kChunkHeaderBytes));
    rates.Add(start, plain, opened, Clock::now());
    state.SetIterationTime(std::chrono::duration<double>(opened - plain).count());
  }
  rates.Report(state, "open_GBps");
}
BENCHMARK(BM_Open)
    ->ArgNames({"chunks"})
    ->ArgsProduct({{4, 64, 256}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace haven
