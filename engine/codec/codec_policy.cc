// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/codec_policy.h"

#include <algorithm>

namespace haven {
namespace {

// Per epoch: about the last 16 count for a level, 32 for the wire, 1000 for the account of trials.
constexpr double kLevelFade = 0.94;
constexpr double kWireFade = 0.97;
constexpr double kAccountFade = 0.999;
// Of the newest epoch, in the time that the next one may take.
constexpr double kLatest = 0.2;
// A sample counts for at most so many times the average before it.
constexpr double kMaxRise = 2;
// Epochs of a trial in vain.
constexpr double kUsualTrial = CodecPolicy::kWarmupEpochs + CodecPolicy::kTrialEpochs;

// Takes a value in that has the given part of all weight.
void Blend(double value, double part, double* average) { *average += part * (value - *average); }

}  // namespace

const char* CodecLevelName(CodecLevel level) {
  constexpr const char* kNames[kCodecLevels] = {"off", "blocks", "lz4", "dense"};
  return kNames[static_cast<size_t>(level)];
}

// To decode takes no longer than to encode: what is more is a wire that has just changed.
double CodecPolicy::Predict(const Level& level, double pages) const {
  const double beyond_ns = std::clamp(level.beyond_ns, 0.0, level.encode_ns);
  return wire_ns_per_epoch_ +
         pages * (level.encode_ns + beyond_ns + level.bytes * wire_ns_per_byte_);
}

bool CodecPolicy::Promises(const Level& level) const {
  return level.known() && Predict(level) <= (1 - kMinGain) * Predict(Of(current_));
}

CodecLevel CodecPolicy::Decide() {
  if (fixed_) return current_;
  if (!trying_) StartTrialIfDue();
  return trying_ ? trial_ : current_;
}

void CodecPolicy::StartTrialIfDue() {
  if (!Of(current_).known()) return;
  const double now = Predict(Of(current_));
  const double budget = kTrialShare * all_ns_ - trial_extra_ns_;
  for (size_t i = 0; i < kCodecLevels; ++i) {
    Level& level = levels_[i];
    const CodecLevel name = static_cast<CodecLevel>(i);
    if (name == current_) continue;
    // Also when no trial is due, and when trials have used up their time: it is about to gain some.
    const bool promises = Promises(level) && level.epochs_since_trial >= kFirstTrialAfter;
    // Old numbers may be far too high, and would then never be looked at again: they are believed
    // up to as much again as the level in use takes. What it really takes is accounted for.
    const double extra = std::clamp(Predict(level) - now, 0.0, now);
    const bool due =
        level.epochs_until_trial == 0 && (!level.known() || kUsualTrial * extra <= budget);
    if (!promises && !due) continue;
    trying_ = true;
    trial_ = name;
    trial_epochs_ = 0;
    level.epochs_since_trial = 0;
    return;
  }
}

void CodecPolicy::Add(const CodecSample& sample) {
  if (sample.pages == 0) return;
  Blend(static_cast<double>(sample.pages), pages_per_epoch_ > 0 ? 1 - kLevelFade : 1,
        &pages_per_epoch_);
  AddWire(sample);
  all_ns_ = all_ns_ * kAccountFade + static_cast<double>(sample.encode_ns + sample.wire_ns);
  trial_extra_ns_ *= kAccountFade;
  coded_epochs_ = sample.level == CodecLevel::kOff ? 0 : coded_epochs_ + 1;
  const CodecLevel expected = trying_ ? trial_ : current_;
  const bool as_said = sample.level == expected;
  if (as_said && trying_) return AddToTrial(sample);
  // What can not be done is not tried again soon.
  if (trying_) Postpone(Of(trial_));
  trying_ = false;
  // Of a level of which nothing is known even the first epochs say something.
  if (Settled() || !Of(sample.level).known()) Learn(sample);
  if (fixed_) return;
  // Trials are held against something that is known.
  if (!as_said && !Of(current_).known()) current_ = sample.level;
  CountEpoch();
}

void CodecPolicy::CountEpoch() {
  for (Level& level : levels_) {
    ++level.epochs_since_trial;
    if (level.epochs_until_trial > 0) --level.epochs_until_trial;
  }
}

void CodecPolicy::Learn(const CodecSample& sample) {
  const double pages = static_cast<double>(sample.pages);
  Level& level = Of(sample.level);
  const double bytes = static_cast<double>(sample.wire_bytes);
  const double told_ns = wire_ns_per_epoch_ + bytes * wire_ns_per_byte_;
  double encode_ns = static_cast<double>(sample.encode_ns) / pages;
  Blend(encode_ns, level.known() ? kLatest : 1, &level.latest_encode_ns);
  // An epoch whose thread was not let run says little of the level.
  if (level.known()) encode_ns = std::min(encode_ns, kMaxRise * level.encode_ns);
  level.weight = level.weight * kLevelFade + 1;
  const double part = 1 / level.weight;
  Blend(encode_ns, part, &level.encode_ns);
  Blend((static_cast<double>(sample.wire_ns) - told_ns) / pages, part, &level.beyond_ns);
  Blend(bytes / pages, part, &level.bytes);
}

void CodecPolicy::AddToTrial(const CodecSample& sample) {
  const double usual_ns = Predict(Of(current_), static_cast<double>(sample.pages));
  const double taken = static_cast<double>(sample.encode_ns + sample.wire_ns);
  trial_extra_ns_ += std::max(taken - usual_ns, 0.0);
  if (!Settled()) return;
  Level& tried = Of(trial_);
  // The first sample that counts replaces what was known: it is old.
  if (trial_epochs_ == 0) tried.weight = 0;
  Learn(sample);
  ++trial_epochs_;
  const bool hopeless = Predict(tried) >= kHopeless * Predict(Of(current_));
  if (trial_epochs_ < kTrialEpochs && !hopeless) return;
  const bool promises = Promises(tried);
  if (promises && trial_epochs_ < kConfirmEpochs) return;
  trying_ = false;
  return promises ? TakeOver(trial_) : Postpone(tried);
}

void CodecPolicy::Postpone(Level& level) {
  level.trial_after = std::min(kTrialGrowth * level.trial_after, kMaxTrialAfter);
  level.epochs_until_trial = level.trial_after;
}

// Conditions have changed: what did badly before deserves another look soon.
void CodecPolicy::TakeOver(CodecLevel level) {
  current_ = level;
  for (Level& other : levels_) {
    other.trial_after = kFirstTrialAfter;
    other.epochs_until_trial = std::min(other.epochs_until_trial, kFirstTrialAfter);
  }
}

void CodecPolicy::AddWire(const CodecSample& sample) {
  const double bytes = static_cast<double>(sample.wire_bytes);
  const double time = static_cast<double>(sample.wire_ns);
  weight_ = weight_ * kWireFade + 1;
  sum_bytes_ = sum_bytes_ * kWireFade + bytes;
  sum_time_ = sum_time_ * kWireFade + time;
  sum_bytes_bytes_ = sum_bytes_bytes_ * kWireFade + bytes * bytes;
  sum_bytes_time_ = sum_bytes_time_ * kWireFade + bytes * time;
  FitWire();
}

// Least squares: wire time = time of an epoch + bytes * time of a byte. Where the line would go
// below zero all time is put down to the bytes, where it falls to the epoch. Where all epochs have
// about the same size no line can be told, and the last one's shares hold: or a level with fewer
// bytes would promise what it does not keep, as soon as the epochs of its trial are forgotten.
void CodecPolicy::FitWire() {
  if (sum_bytes_ <= 0) return;
  const double spread = weight_ * sum_bytes_bytes_ - sum_bytes_ * sum_bytes_;
  constexpr double kMinSpread = 0.04;  // Of the square of the mean: sizes differ by a fifth.
  if (spread > kMinSpread * sum_bytes_ * sum_bytes_) {
    const double slope = (weight_ * sum_bytes_time_ - sum_bytes_ * sum_time_) / spread;
    epoch_share_ = sum_time_ > 0 ? std::clamp(1 - slope * sum_bytes_ / sum_time_, 0.0, 1.0) : 0;
  }
  wire_ns_per_epoch_ = epoch_share_ * sum_time_ / weight_;
  wire_ns_per_byte_ = (1 - epoch_share_) * sum_time_ / sum_bytes_;
}

void CodecPolicy::ForgetBaselines() {
  coded_epochs_ = 0;
  trial_epochs_ = 0;
}

void CodecPolicy::SetFixed(CodecLevel level) {
  fixed_ = true;
  trying_ = false;
  current_ = level;
}

void CodecPolicy::SetAutomatic() { fixed_ = false; }

}  // namespace haven
