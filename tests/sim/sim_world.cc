// SPDX-License-Identifier: Apache-2.0
//
// The simulated world as a whole: what a seed draws, how it runs, and when it is at rest.
#include "tests/sim/sim_world.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/mutant.h"

namespace haven {

namespace {

// From the last fault until the group is protected again.
constexpr int64_t kRestNs = 15 * kNsPerSecond;

CodecMode RandomMode(Random& random) {
  return static_cast<CodecMode>(random.Below(static_cast<uint64_t>(CodecMode::kBoth) + 1));
}

}  // namespace

SimWorld::SimWorld(uint64_t seed, bool trace)
    : seed_(seed), trace_(trace), random_(seed), codec_random_(~seed) {
  Configure();
  ConfigureCodec();
  // Not from the others, so that the rest of a seed is what it is without these.
  Random own(seed * 2 + 1);
  // A chunk that is sealed under a number used before stops the process before any rule sees it.
  config_.sealed = own.Chance(1, 3) && !HAVEN_MUTANT(kReuseEpochNumber);
  config_.codec.verify = own.Chance(1, 3);
  config_.copies_lost = own.Chance(1, 6);
  if (own.Chance(1, 6)) guests_.meddler.emplace(own.Next());
  const bool durable = random_.Chance(1, 2);
  for (Host& host : hosts_) {
    host.clock = std::make_unique<SimClock>(scheduler_);
    host.durable = durable;
  }
}

SimWorld::~SimWorld() { scheduler_.Clear(); }

void SimWorld::Configure() {
  config_.guests = random_.Chance(1, 3) ? static_cast<uint32_t>(random_.Between(2, 3)) : 1;
  config_.geometry.slot_bytes = kMinSlotBytes;
  config_.geometry.ring_slots = static_cast<uint32_t>(random_.Between(4, 12));
  config_.geometry.extent_slots = 2;
  config_.geometry.pool_slots = 2 * static_cast<uint32_t>(random_.Between(0, 8));
  config_.staging_slots = static_cast<uint32_t>(
      random_.Between(3, config_.geometry.ring_slots + config_.geometry.pool_slots));
  PrimaryConfig& primary = config_.primary;
  primary.interval_ns = random_.Between(5, 40) * kNsPerMs;
  primary.detect_ns = random_.Between(60, 200) * kNsPerMs;
  primary.rearm_ns = random_.Between(200, 900) * kNsPerMs;
  primary.progress_ns = random_.Between(80, 300) * kNsPerMs;
  primary.pause_budget_ns = random_.Between(100, 600) * kNsPerMs;
  primary.solo_patience_ns = random_.Between(200, 800) * kNsPerMs;
  primary.suspend_deadline_ns = 50 * kNsPerMs;
  primary.resume_deadline_ns = 50 * kNsPerMs;
  primary.session_retry_ns = 150 * kNsPerMs;
  primary.link_retry_ns = 20 * kNsPerMs;
  primary.session_deadline_ns = random_.Between(200, 800) * kNsPerMs;
  primary.open_deadline_ns = 200 * kNsPerMs;
  primary.arbiter_retry_ns = 30 * kNsPerMs;
  primary.handover_ns = 500 * kNsPerMs;
  primary.sync_threshold_pages = 24;
  primary.sync_rounds_max = 4;
  // A host slower than its guests write would never have a whole copy.
  const int64_t slowest_ms = std::min<int64_t>(30, config_.staging_slots * 8 / config_.guests);
  if (random_.Chance(1, 2)) config_.apply_delay_ns = random_.Between(0, slowest_ms) * kNsPerMs;
  BackupConfig& backup = config_.backup;
  backup.detect_ns = primary.detect_ns;
  backup.arbiter_retry_ns = 30 * kNsPerMs;
  backup.register_poll_ns = 100 * kNsPerMs;
  backup.copy_retry_ns = 20 * kNsPerMs;
  backup.keep_ns = random_.Between(800, 3000) * kNsPerMs;
  backup.forget_ns = random_.Between(200, 3000) * kNsPerMs;
  config_.slow_turn_ns = random_.Between(1, 40) * kNsPerMs;
  config_.stuck_ns = random_.Between(50, 400) * kNsPerMs;
  config_.hang_ns = random_.Between(200, 800) * kNsPerMs;
  config_.revoke_kills = random_.Chance(1, 4);
  guests_.rebuild_releases = random_.Chance(1, 2);
  if (random_.Chance(1, 2)) guests_.resume_ns = random_.Between(10 * kNsPerUs, 3 * kNsPerMs);
  if (random_.Chance(1, 3)) MakeRoomy();
}

// As the design wants it of production: an epoch always fits, and nobody is impatient. The others
// show what becomes of those that have less.
void SimWorld::MakeRoomy() {
  constexpr uint32_t kPagesPerSlot = 12;
  config_.roomy = true;
  config_.staging_slots = config_.guests * (kSimPages / kPagesPerSlot + 2);
  config_.geometry.ring_slots = 2 * config_.staging_slots;
  config_.primary.rearm_ns = config_.primary.pause_budget_ns = kNsPerSecond;
  config_.apply_delay_ns = std::min(config_.apply_delay_ns, 5 * kNsPerMs);
}

// Half of the worlds have coded pages; in those every choice of the codec changes now and then.
void SimWorld::ConfigureCodec() {
  Random& random = codec_random_;
  CodecStageOptions& codec = config_.codec;
  codec.enabled = random.Chance(1, 2);
  if (!codec.enabled) return;
  guests_.copies.emplace(random.Next());
  codec.mode = RandomMode(random);
  codec.block_shift = static_cast<unsigned>(random.Between(kMinBlockShift, kMaxBlockShift));
  codec.cache_bytes = random.Below(2 * kSimPages) * kPageBytes;
  codec.hashes = random.Chance(2, 3);
  std::array<std::byte, HashKey::kBytes> secret;
  random.Fill(secret);
  // Another one for each session of an engine.
  codec.draw_key = [secret]() mutable {
    std::ranges::rotate(secret, secret.begin() + 1);
    return HashKey(secret);
  };
}

void SimWorld::ChangeCodec() {
  if (!config_.codec.enabled || !codec_random_.Chance(1, 100)) return;
  const CodecMode mode = RandomMode(codec_random_);
  for (int host = 0; host < 2; ++host) {
    if (EngineAt(host) != nullptr) HAVEN_CHECK_OK(EngineAt(host)->driver().SetCodecMode(mode));
  }
}

void SimWorld::Trace(const std::string& what) const {
  if (trace_)
    std::printf("%11.6f ms %s\n", static_cast<double>(scheduler_.now_ns()) / 1e6, what.c_str());
}

std::string SimWorld::NewOwner(int host) {
  return absl::StrFormat("%c.%016x", HostLetter(host), random_.Next());
}

std::shared_ptr<SimGroup> SimWorld::MakeGroup(int host, std::string owner) {
  const CopyId copy = next_copy_++;
  const size_t index = groups_.size();
  groups_.push_back(std::make_shared<SimGroup>(
      guests_, copy, config_.guests, std::move(owner),
      [this, index](const SimPacket& packet) { Released(*groups_[index], packet); },
      [this, host, copy] {
        if (hosts_[host].copy == nullptr || hosts_[host].copy->copy() != copy) return;
        if (EngineAt(host) != nullptr) EngineAt(host)->loop().Wake();
      }));
  return groups_.back();
}

// What the replica that the register would let run has committed for this guest, be it gone.
void SimWorld::Released(SimGroup& group, const SimPacket& packet) {
  std::optional<uint64_t> committed;
  const std::optional<Register>& truth = arbiter_.truth();
  if (truth.has_value() && truth->mode == RegisterMode::kPromotable) {
    const auto ended = ended_sessions_.find(truth->session);
    if (ended != ended_sessions_.end()) committed = ended->second[packet.guest];
    for (const Host& host : hosts_) {
      if (host.session == nullptr) continue;
      const auto state = host.session->Committed(truth->session, packet.guest);
      if (state.has_value()) committed = state->step;
    }
  }
  // Of an older term: the successor's history says whether it may be so.
  if (truth.has_value() && truth->owner != group.owner()) committed = UINT64_MAX;
  checks_.OnReleased(packet, truth, group.owner(), committed);
}

// Ends a process that may be the caller: nothing happens in between.
void SimWorld::Bury(std::shared_ptr<void> process) {
  morgue_.push_back(std::move(process));
  scheduler_.After(0, [this] { morgue_.clear(); });
}

void SimWorld::Slice() {
  ChangeCodec();
  for (Host& host : hosts_) {
    if (host.copy != nullptr) host.copy->RunSlice();
  }
  CheckWaits();
  scheduler_.After(random_.Between(500 * kNsPerUs, 4 * kNsPerMs), [this] { Slice(); });
}

SimEngine* SimWorld::EngineAt(int host) const {
  return hosts_[host].guard == nullptr ? nullptr : hosts_[host].guard->engine().get();
}

int SimWorld::OwnerHost() const {
  const std::optional<Register>& truth = arbiter_.truth();
  if (!truth.has_value()) return HasCopy(0) ? 0 : -1;
  for (int host = 0; host < 2; ++host) {
    if (HasCopy(host) && hosts_[host].copy->owner() == truth->owner) return host;
  }
  return -1;
}

// Of the copy that the register names; of the other one, if that is not running yet.
int SimWorld::PrimaryHost() const {
  const int owner = OwnerHost();
  if (owner >= 0) return owner;
  return HasCopy(1) ? 1 : 0;
}

bool SimWorld::RunUntil(int64_t end_ns, bool stop_at_rest) {
  while (checks_.violation().empty() && !lost_ && scheduler_.Step(end_ns)) {
    if (stop_at_rest && AtRest()) return true;
  }
  return false;
}

SimResult SimWorld::Run() {
  InjectFaults();
  BootGuests(0);
  Slice();
  RunUntil(faults_over_ns_, false);
  faults_over_ = true;
  victim_ = SimProcess::kCount;
  in_force_until_ns_.fill(0);
  SlowSessions();
  network_.Heal();
  guests_.chances.Clear();
  guests_.meddler.reset();
  Trace("faults are over");
  const bool rests = RunUntil(faults_over_ns_ + kRestNs, true);
  // A request that is carried out after the death of who asked: two faults in one.
  const bool nothing_left =
      !HasCopy(0) && !HasCopy(1) && hosts_[0].session == nullptr && hosts_[1].session == nullptr;
  if (nothing_left && request_died_) lost_ = true;
  if (!rests && checks_.violation().empty() && !lost_) {
    checks_.Violate(absl::StrCat("I6: not protected long after the last fault: ", Describe()));
  }
  if (rests) Probe();
  for (int host = 0; host < 2; ++host) {
    if (EngineAt(host) != nullptr) CountEpochs(EngineAt(host)->driver());
  }
  result_.violation = checks_.violation();
  result_.let_go = guests_.let_go;
  result_.released = checks_.released();
  result_.promotions = checks_.promotions();
  result_.group_lost = lost_;
  return result_;
}

void SimWorld::CountEpochs(const PrimaryDriver& driver) {
  result_.epochs += driver.counters().epochs;
  result_.kept_logs += driver.counters().kept_logs;
  result_.cleared_logs += driver.counters().cleared_logs;
  if (config_.sealed) result_.sealed_epochs += driver.counters().epochs;
  if (driver.codec() == nullptr) return;
  const CodecReport report = driver.codec()->Report();
  result_.coded_epochs += report.coded_epochs;
  if (!config_.codec.verify) return;
  result_.verified_epochs += report.coded_epochs;
  // Of a good hash no simulation sees a collision: the hashes are not those of the bytes.
  if (report.pages.missed_blocks != 0) {
    checks_.Violate(absl::StrCat("I1: hashes miss ", report.pages.missed_blocks,
                                 " changed blocks of pages whose bytes are kept"));
  }
}

// Protected again, with one copy only and output that flows.
bool SimWorld::AtRest() const {
  const int owner = OwnerHost();
  if (owner < 0 || HasCopy(1 - owner) || EngineAt(owner) == nullptr) return false;
  // It is noticed with the next epoch.
  const std::shared_ptr<SimSession>& session = hosts_[1 - owner].session;
  if (session != nullptr && session->copy_lost()) return false;
  const Primary& primary = EngineAt(owner)->driver().primary();
  return primary.state(hosts_[owner].clock->NowNs()) == ProtectionState::kProtected &&
         arbiter_.truth()->mode == RegisterMode::kPromotable;
}

std::string SimWorld::Describe() const {
  std::string text = arbiter_.truth().has_value() ? FormatRegister(*arbiter_.truth()) : "absent";
  for (int host = 0; host < 2; ++host) {
    const Host& here = hosts_[host];
    absl::StrAppend(&text, " | host ", host, here.up ? "" : " down", ": ");
    if (here.record.has_value()) {
      absl::StrAppend(&text, "record ", here.record->owner, " phase ",
                      static_cast<int>(here.record->phase), " ");
    }
    if (here.copy != nullptr) absl::StrAppend(&text, "copy ", here.copy->owner(), " ");
    if (const SimEngine* const engine = EngineAt(host)) {
      const PrimaryDriver& driver = engine->driver();
      absl::StrAppend(&text, "engine role ", static_cast<int>(driver.primary().role()), " phase ",
                      static_cast<int>(driver.primary().phase()), " link ",
                      static_cast<int>(driver.primary().link_state()), " flight ",
                      driver.primary().epoch_in_flight(), " ", driver.primary().cause(), " ",
                      driver.last_error().ToString());
    } else if (here.guard != nullptr) {
      absl::StrAppend(&text, "guard ", static_cast<int>(here.guard->state()));
    }
    if (here.session != nullptr) {
      absl::StrAppend(&text, "session ", Backup::StateName(here.session->driver().backup().state()),
                      " ", here.session->driver().last_error().ToString());
    }
  }
  return text;
}

}  // namespace haven
