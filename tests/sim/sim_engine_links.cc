// SPDX-License-Identifier: Apache-2.0
//
// The links of a simulated engine: asked for, opened, closed, broken.
#include <algorithm>
#include <utility>

#include "engine/replica/peer_block.h"
#include "tests/sim/sim_engine.h"
#include "tests/sim/sim_session.h"

namespace haven {

void SimLanes::Destroy() {
  if (data != nullptr) data->Destroy();
  if (beats != nullptr) beats->Destroy();
  data.reset();
  beats.reset();
}

std::shared_ptr<SimLink> SimEngine::MakeLink(SimPath path, std::function<void()> wake) {
  return std::make_shared<SimLink>(shared_.network, shared_.memory, fabric_, host_, path,
                                   std::move(wake));
}

void SimEngine::OpenLink(LinkNumber number) {
  if (!life_.Acts()) return;
  CloseLink();
  shared_.network.scheduler().After(shared_.network.DelayNs(),
                                    [weak = weak_from_this(), number, attempt = attempt_] {
                                      const std::shared_ptr<SimEngine> engine = weak.lock();
                                      if (engine != nullptr && attempt == engine->attempt_)
                                        engine->AskForLink(number, attempt);
                                    });
}

// A channel whose last link was never finished, or that was lost, is replaced by a new one.
void SimEngine::AskForLink(LinkNumber number, uint64_t attempt) {
  if (!Reachable()) {
    return shared_.network.scheduler().After(
        50 * kNsPerMs, [weak = weak_from_this(), number, attempt] {
          const std::shared_ptr<SimEngine> late = weak.lock();
          if (late == nullptr || attempt != late->attempt_) return;
          late->Push(LinkFailed{number, absl::DeadlineExceededError("simulated: no route")});
        });
  }
  const std::shared_ptr<SimSession> peer = peer_.lock();
  if (peer == nullptr) {
    // The host answers, the process is gone.
    return Push(MessageArrived{
        Drop{memory_.session, DropReason::kReplica, "simulated: no such session here"}});
  }
  if (channel_ == nullptr || !channel_->up() || lanes_left_over_) {
    if (channel_ != nullptr) channel_->Close();
    channel_ = std::make_shared<SimChannel>(shared_.network);
  }
  lanes_left_over_ = true;
  const SimLanes lanes{MakeLink(SimPath::kData,
                                [weak = weak_from_this()] {
                                  if (auto engine = weak.lock()) engine->loop_.Wake();
                                }),
                       MakeLink(SimPath::kBeats, nullptr)};
  SimChannel::Send(channel_, host_,
                   [self = weak_from_this(), weak = peer_, number, attempt, lanes,
                    channel = channel_, session = memory_.session] {
                     const std::shared_ptr<SimSession> target = weak.lock();
                     const std::shared_ptr<SimEngine> engine = self.lock();
                     if (target == nullptr || engine == nullptr) return;
                     target->TakeLinkRequest(session, number, engine, attempt, channel, lanes);
                   });
}

void SimEngine::TakeOffer(uint64_t attempt, const LinkOffer& offer, SimLanes lanes) {
  if (attempt != attempt_) return lanes.Destroy();
  lanes_left_over_ = false;
  lanes_ = std::move(lanes);
  open_link_ = offer.link;
  Push(LinkOpened{offer.link, lanes_.data.get(), lanes_.beats.get(), offer.committed_epoch,
                  offer.next_position, offer.ring_tail});
}

// TransportBackupConnector::OpenChannel.
void SimEngine::OpenChannel() {
  if (lanes_.data == nullptr || std::exchange(opening_channel_, true)) return;
  const std::weak_ptr<SimEngine> weak = weak_from_this();
  shared_.network.scheduler().After(shared_.network.DelayNs(), [weak, attempt = attempt_] {
    const std::shared_ptr<SimEngine> engine = weak.lock();
    if (engine == nullptr || attempt != engine->attempt_) return;
    engine->opening_channel_ = false;
    if (!engine->Reachable() || engine->peer_.expired()) return;
    engine->channel_ = std::make_shared<SimChannel>(engine->shared_.network);
    SimChannel::Send(engine->channel_, engine->host_,
                     [weak, peer = engine->peer_, channel = engine->channel_,
                      session = engine->memory_.session, link = engine->open_link_] {
                       const std::shared_ptr<SimSession> target = peer.lock();
                       if (target != nullptr) target->TakeLinkReady(session, link, weak, channel);
                     });
  });
}

void SimEngine::CloseLink() {
  if (!life_.Acts()) return;
  KeepAck();
  ++attempt_;
  opening_channel_ = false;
  pump_.ClearLane();
  lanes_.Destroy();
  std::erase_if(events_, [](const ConnectorEvent& event) {
    return std::holds_alternative<LinkOpened>(event) || std::holds_alternative<LinkFailed>(event);
  });
}

bool SimEngine::BreakData() {
  if (lanes_.data == nullptr) return false;
  lanes_.data->Break();
  return true;
}

void SimEngine::KeepAck() {
  if (lanes_.data == nullptr || memory_.peer_block.bytes.empty()) return;
  const std::span<const std::byte> ack = memory_.peer_block.bytes.subspan(kAckOffset, kAckBytes);
  old_ack_.assign(ack.begin(), ack.end());
}

// What the destruction of the old link excludes as a rule (DESIGN.md section 5): the names in it
// are the second line.
bool SimEngine::LandOldAck() {
  if (old_ack_.empty() || lanes_.data == nullptr) return false;
  std::copy(old_ack_.begin(), old_ack_.end(), memory_.peer_block.bytes.begin() + kAckOffset);
  loop_.Wake();
  return true;
}

}  // namespace haven
