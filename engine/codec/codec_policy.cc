// SPDX-License-Identifier: Apache-2.0
#include "engine/codec/codec_policy.h"

#include <algorithm>

namespace haven {
namespace {

// Weight of the newest sample in the averages of a level: about the last eight count.
constexpr double kNew = 0.2;
// Per epoch, for the wire and for the account of trials: about the last 32 and the last 1000 count.
constexpr double kWireFade = 0.97;
constexpr double kAccountFade = 0.999;

void Blend(bool known, double value, double* average) {
  *average = known ? *average + kNew * (value - *average) : value;
}

}  // namespace

const char* CodecLevelName(CodecLevel level) {
  constexpr const char* kNames[kCodecLevels] = {"off", "blocks", "lz4", "dense"};
  return kNames[static_cast<size_t>(level)];
}

double CodecPolicy::Predict(const Level& level) const {
  return pages_per_epoch_ * (level.encode_ns + level.bytes * wire_ns_per_byte_) +
         wire_ns_per_epoch_;
}

CodecLevel CodecPolicy::Decide() {
  if (fixed_) return current_;
  if (!trying_) StartTrialIfDue();
  return trying_ ? trial_ : current_;
}

void CodecPolicy::StartTrialIfDue() {
  if (!Of(current_).known) return;
  const double now = Predict(Of(current_));
  const double budget = kTrialShare * all_ns_ - trial_extra_ns_;
  for (size_t i = 0; i < kCodecLevels; ++i) {
    Level& level = levels_[i];
    const CodecLevel name = static_cast<CodecLevel>(i);
    if (name == current_ || level.epochs_until_trial > 0) continue;
    // What is not known is taken to cost as much again as the level in use.
    const double extra = level.known ? std::max(Predict(level) - now, 0.0) : now;
    if (kTrialEpochs * extra > budget) continue;
    trying_ = true;
    trial_ = name;
    trial_epochs_ = 0;
    return;
  }
}

void CodecPolicy::Add(const CodecSample& sample) {
  if (sample.pages == 0) return;
  const double pages = static_cast<double>(sample.pages);
  Blend(pages_per_epoch_ > 0, pages, &pages_per_epoch_);
  AddWire(sample);
  const double taken = static_cast<double>(sample.encode_ns + sample.wire_ns);
  all_ns_ = all_ns_ * kAccountFade + taken;
  trial_extra_ns_ *= kAccountFade;
  const CodecLevel expected = trying_ ? trial_ : current_;
  if (sample.level != expected) {
    // What can not be done is not tried again soon.
    if (trying_) Postpone(Of(trial_));
    trying_ = false;
    return;
  }

  Level& level = Of(sample.level);
  const auto learn = [&] {
    Blend(level.known, static_cast<double>(sample.encode_ns) / pages, &level.encode_ns);
    Blend(level.known, static_cast<double>(sample.wire_bytes) / pages, &level.bytes);
    level.known = true;
  };
  if (fixed_) return learn();
  if (!trying_) {
    learn();
    for (Level& other : levels_) {
      if (other.epochs_until_trial > 0) --other.epochs_until_trial;
    }
    return TakeBest();
  }
  const Level& usual = Of(current_);
  const double usual_ns =
      pages * (usual.encode_ns + usual.bytes * wire_ns_per_byte_) + wire_ns_per_epoch_;
  trial_extra_ns_ += std::max(taken - usual_ns, 0.0);
  // The first sample that counts replaces what was known: it is old.
  if (trial_epochs_ == kWarmupEpochs) level.known = false;
  if (trial_epochs_ >= kWarmupEpochs) learn();
  if (++trial_epochs_ == kTrialEpochs) EndTrial();
}

void CodecPolicy::EndTrial() {
  trying_ = false;
  Level& tried = Of(trial_);
  const CodecLevel before = current_;
  TakeBest();
  if (current_ == before) return Postpone(tried);
  tried.trial_after = kFirstTrialAfter;
  tried.epochs_until_trial = tried.trial_after;
}

void CodecPolicy::Postpone(Level& level) {
  level.trial_after = std::min(2 * level.trial_after, kMaxTrialAfter);
  level.epochs_until_trial = level.trial_after;
}

void CodecPolicy::TakeBest() {
  CodecLevel best = current_;
  for (size_t i = 0; i < kCodecLevels; ++i) {
    if (levels_[i].known && Predict(levels_[i]) < Predict(Of(best)))
      best = static_cast<CodecLevel>(i);
  }
  if (best == current_ || Predict(Of(best)) > (1 - kMinGain) * Predict(Of(current_))) return;
  // Conditions have changed: what did badly before deserves another look soon.
  for (Level& level : levels_) {
    level.trial_after = kFirstTrialAfter;
    level.epochs_until_trial = std::min(level.epochs_until_trial, kFirstTrialAfter);
  }
  current_ = best;
}

// Least squares: wire time = time of an epoch + bytes * time of a byte. Where all epochs have about
// the same size, or the line would go below zero, all time is put down to the bytes.
void CodecPolicy::AddWire(const CodecSample& sample) {
  const double bytes = static_cast<double>(sample.wire_bytes);
  const double time = static_cast<double>(sample.wire_ns);
  weight_ = weight_ * kWireFade + 1;
  sum_bytes_ = sum_bytes_ * kWireFade + bytes;
  sum_time_ = sum_time_ * kWireFade + time;
  sum_bytes_bytes_ = sum_bytes_bytes_ * kWireFade + bytes * bytes;
  sum_bytes_time_ = sum_bytes_time_ * kWireFade + bytes * time;
  const double spread = weight_ * sum_bytes_bytes_ - sum_bytes_ * sum_bytes_;
  constexpr double kMinSpread = 0.01;  // Of the square of the mean: sizes differ by a tenth.
  wire_ns_per_byte_ = sum_bytes_ > 0 ? sum_time_ / sum_bytes_ : 0;
  wire_ns_per_epoch_ = 0;
  if (spread <= kMinSpread * sum_bytes_ * sum_bytes_) return;
  const double slope = (weight_ * sum_bytes_time_ - sum_bytes_ * sum_time_) / spread;
  const double start = (sum_time_ - slope * sum_bytes_) / weight_;
  if (start < 0) return;
  wire_ns_per_byte_ = std::max(slope, 0.0);
  wire_ns_per_epoch_ = slope > 0 ? start : sum_time_ / weight_;
}

void CodecPolicy::AddFailure() {
  if (trying_) trial_epochs_ = 0;
}

void CodecPolicy::SetFixed(CodecLevel level) {
  fixed_ = true;
  trying_ = false;
  current_ = level;
}

void CodecPolicy::SetAutomatic() { fixed_ = false; }

}  // namespace haven
