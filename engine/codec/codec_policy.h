// SPDX-License-Identifier: Apache-2.0
//
// Chooses how much work an epoch's pages are worth: the level at which the commit comes soonest.
#ifndef HAVEN_ENGINE_CODEC_CODEC_POLICY_H_
#define HAVEN_ENGINE_CODEC_CODEC_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace haven {

// From no work to most. The engine gives each its CodecSettings.
enum class CodecLevel : uint8_t {
  kOff = 0,     // Raw and zero runs.
  kBlocks = 1,  // Changed blocks, byte runs, sharing while it finds something.
  kLz4 = 2,     // The same and LZ4.
  kDense = 3,   // The same and zstd.
};
inline constexpr size_t kCodecLevels = 4;

// "off", "blocks", "lz4" or "dense".
const char* CodecLevelName(CodecLevel level);

// What one committed epoch showed.
struct CodecSample {
  CodecLevel level = CodecLevel::kOff;
  uint64_t pages = 0;
  uint64_t wire_bytes = 0;
  int64_t encode_ns = 0;  // Resume of the guest to the last byte encoded, all threads together.
  int64_t wire_ns = 0;    // From there to the acknowledgement.
};

// Keeps for each level the bytes and the time that a page costs: to encode, and what the wire takes
// beyond its bytes, such as the backup's decoding; and for the wire the time of an epoch and of a
// byte; all as moving averages. Decide() takes the level with the least
//   epoch time + pages * (encode time + time beyond the bytes + bytes * byte time).
// A level that is not in use is tried for a few epochs, soon after the start and then now and then,
// as its numbers grow old: more rarely the more often that was in vain, and only while all such
// trials have taken less than kTrialShare of the time, so that where the codec gains nothing its
// price stays near that. The first coded epochs in a row do not count: the baselines have to fill.
// Single epochs are noise: no level takes over but at the end of a trial, which goes on for as long
// as the level seems to gain until enough epochs say so; and where old numbers promise a gain, that
// leads to a trial, whatever trials have taken. Pure logic: time comes with the samples. Not
// thread-safe.
class CodecPolicy {
 public:
  // Of all commit time, what trials may have added when the next one begins.
  static constexpr double kTrialShare = 0.03;
  // A level takes over if it promises at least this part less.
  static constexpr double kMinGain = 0.05;
  static constexpr uint32_t kWarmupEpochs = 3;     // Coded in a row, before any of them counts.
  static constexpr uint32_t kTrialEpochs = 3;      // That count, of a trial that promises nothing.
  static constexpr uint32_t kConfirmEpochs = 12;   // Of one that ends with another level.
  static constexpr double kHopeless = 1.5;         // As long as the level in use: a trial ends.
  static constexpr uint32_t kFirstTrialAfter = 8;  // Epochs; with each trial in vain so often more:
  static constexpr uint32_t kTrialGrowth = 4;
  static constexpr uint32_t kMaxTrialAfter = 4096;

  // The level for the next epoch.
  CodecLevel Decide();

  // Takes in a committed epoch. Epochs without pages say nothing and are left out. An epoch may
  // have been sent at another level than Decide() said: a trial that can not be made is put off.
  void Add(const CodecSample& sample);

  // Baselines are gone, as an epoch failed or a session began: a trial that runs starts over.
  void ForgetBaselines();

  // By hand: the given level always, until SetAutomatic().
  void SetFixed(CodecLevel level);
  void SetAutomatic();
  bool automatic() const { return !fixed_; }

  // For the status: what Decide() works with. 0: not known; for the wire also: all of its time is
  // the epoch's, or the bytes'.
  double encode_ns_per_page(CodecLevel level) const { return Of(level).encode_ns; }
  double bytes_per_page(CodecLevel level) const { return Of(level).bytes; }
  double wire_ns_per_byte() const { return wire_ns_per_byte_; }
  double wire_ns_per_epoch() const { return wire_ns_per_epoch_; }
  CodecLevel current() const { return current_; }

  // As encode_ns_per_page(), but a single epoch that took long counts in full: what the next one
  // may take. 0: not known.
  double latest_encode_ns_per_page(CodecLevel level) const { return Of(level).latest_encode_ns; }

 private:
  struct Level {
    bool known() const { return weight > 0; }

    double weight = 0;     // Of the samples in the averages; 0: none.
    double encode_ns = 0;  // A page.
    double latest_encode_ns = 0;
    double beyond_ns = 0;  // A page: wire time that the line through bytes and time does not tell.
    double bytes = 0;      // A page.
    uint32_t epochs_until_trial = kFirstTrialAfter;
    uint32_t trial_after = kFirstTrialAfter;
    uint32_t epochs_since_trial = 0;
  };
  const Level& Of(CodecLevel level) const { return levels_[static_cast<size_t>(level)]; }
  Level& Of(CodecLevel level) { return levels_[static_cast<size_t>(level)]; }

  // An epoch of so many pages at a level.
  double Predict(const Level& level, double pages) const;
  double Predict(const Level& level) const { return Predict(level, pages_per_epoch_); }
  // True if the level is known and takes at least kMinGain less than the one in use.
  bool Promises(const Level& level) const;
  void AddWire(const CodecSample& sample);
  void FitWire();
  void StartTrialIfDue();
  void Learn(const CodecSample& sample);
  void CountEpoch();
  void AddToTrial(const CodecSample& sample);
  // True if the last epoch shows what its level is worth.
  bool Settled() const { return coded_epochs_ == 0 || coded_epochs_ > kWarmupEpochs; }
  static void Postpone(Level& level);
  void TakeOver(CodecLevel level);

  std::array<Level, kCodecLevels> levels_{};
  bool fixed_ = false;
  CodecLevel current_ = CodecLevel::kOff;  // What is best, or what is set by hand.
  bool trying_ = false;
  CodecLevel trial_ = CodecLevel::kOff;
  uint32_t trial_epochs_ = 0;  // That count.
  uint32_t coded_epochs_ = 0;  // In a row.

  // Weighted sums over epochs of bytes and of wire time, for a straight line through them.
  double weight_ = 0;
  double sum_bytes_ = 0;
  double sum_time_ = 0;
  double sum_bytes_bytes_ = 0;
  double sum_bytes_time_ = 0;
  double wire_ns_per_byte_ = 0;
  double wire_ns_per_epoch_ = 0;
  double epoch_share_ = 0;  // Of the wire time, when it could last be told from that of the bytes.
  double pages_per_epoch_ = 0;

  double all_ns_ = 0;          // Commit time so far, old time fading.
  double trial_extra_ns_ = 0;  // Of it, what trials took beyond the level in use.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CODEC_CODEC_POLICY_H_
