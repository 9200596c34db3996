// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/plug_queue.h"

#include <string>
#include <vector>

#include "engine/base/random.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

// Carries out a script and returns the numbers of the packets that left, in order:
// '+' a packet comes, 'B' Buffer, '1' ReleaseOne, 'A' ReleaseAll, 'C' Clear.
class Script {
 public:
  explicit Script(uint64_t limit_packets = 100) : queue_(limit_packets * 64, 64) {}

  std::vector<uint64_t> Run(const std::string& steps) {
    std::vector<uint64_t> left;
    for (const char step : steps) {
      switch (step) {
        case '+': {
          SyntheticPacket packet;
          packet.sequence = ++sequence_;
          if (!queue_.Enqueue(packet)) ++dropped_;
          break;
        }
        case 'B':
          queue_.Buffer();
          break;
        case '1':
          queue_.ReleaseOne();
          break;
        case 'A':
          queue_.ReleaseAll();
          break;
        case 'C':
          queue_.Clear();
          break;
        default:
          ADD_FAILURE() << step;
      }
      while (const auto packet = queue_.Dequeue()) left.push_back(packet->sequence);
    }
    return left;
  }

  const PlugQueue& queue() const { return queue_; }
  int dropped() const { return dropped_; }

 private:
  PlugQueue queue_;
  uint64_t sequence_ = 0;
  int dropped_ = 0;
};

using Numbers = std::vector<uint64_t>;

TEST(PlugQueueTest, TheSemanticsOfSchPlug) {
  struct Case {
    const char* what;
    const char* steps;
    Numbers left;
  };
  const Case table[] = {
      {"a new queue is closed", "++", {}},
      {"a release without a finished epoch lets nothing go", "++1", {}},
      {"the running epoch stays", "++B+1", {1, 2}},
      {"an epoch is released once", "++B+11", {1, 2}},
      {"one epoch after the other", "++B+1B1", {1, 2, 3}},
      {"an empty epoch", "B1+B1", {1}},
      {"two barriers lose the first count", "++B+B1", {1}},
      {"and output lags from then on", "++B+B1++B1", {1, 2, 3}},
      {"three barriers", "++B+BB1", {}},
      {"releases add up", "++B1+B1", {1, 2, 3}},
      {"opening lets everything go, in order", "++B+A", {1, 2, 3}},
      {"and what comes passes", "+A++", {1, 2, 3}},
      {"until the next barrier", "+A+B++", {1, 2}},
      {"which starts an empty epoch", "+A+B++1", {1, 2}},
      {"opening forgets a finished epoch", "++BAB1+", {1, 2}},
      {"packets that passed belong to no epoch", "A++B+1B1", {1, 2, 3}},
      {"opening twice", "+AA+", {1, 2}},
      {"a cleared queue is new", "++B+C+1B1", {4}},
  };
  for (const Case& one : table) {
    Script script;
    EXPECT_EQ(script.Run(one.steps), one.left) << one.what << ": " << one.steps;
  }
}

TEST(PlugQueueTest, TheLimitDropsWhatComesLastAndCountsItInNoEpoch) {
  Script script(3);
  EXPECT_EQ(script.Run("+++++"), Numbers());
  EXPECT_EQ(script.dropped(), 2);
  EXPECT_EQ(script.queue().packets(), 3u);
  EXPECT_EQ(script.queue().bytes(), 3u * 64);
  // 6 finds no room; the release makes room for 7.
  EXPECT_EQ(script.Run("B+1+"), (Numbers{1, 2, 3}));
  EXPECT_EQ(script.dropped(), 3);
  EXPECT_EQ(script.Run("B1"), Numbers{7});
}

TEST(PlugQueueTest, AQueueWithoutRoomDropsEverything) {
  Script script(0);
  EXPECT_EQ(script.Run("+B+1A+"), Numbers());
  EXPECT_EQ(script.dropped(), 3);
}

// The kernel's code as it stands, with a list in the place of the skb queue.
class KernelPlug {
 public:
  void Enqueue(uint64_t sequence) {
    if (queue_.size() == 8) return;
    if (!unplug_indefinite_) ++pkts_current_epoch_;
    queue_.push_back(sequence);
  }
  void Change(char action) {
    switch (action) {
      case 'B':
        pkts_last_epoch_ = pkts_current_epoch_;
        pkts_current_epoch_ = 0;
        if (unplug_indefinite_) throttled_ = true;
        unplug_indefinite_ = false;
        break;
      case '1':
        pkts_to_release_ += pkts_last_epoch_;
        pkts_last_epoch_ = 0;
        throttled_ = false;
        break;
      case 'A':
        unplug_indefinite_ = true;
        pkts_to_release_ = 0;
        pkts_last_epoch_ = 0;
        pkts_current_epoch_ = 0;
        throttled_ = false;
        break;
      default:
        ADD_FAILURE() << action;
    }
  }
  std::vector<uint64_t> Drain() {
    std::vector<uint64_t> left;
    while (true) {
      if (throttled_) return left;
      if (!unplug_indefinite_) {
        if (pkts_to_release_ == 0) {
          throttled_ = true;
          return left;
        }
        --pkts_to_release_;
      }
      if (queue_.empty()) return left;
      left.push_back(queue_.front());
      queue_.erase(queue_.begin());
    }
  }

 private:
  std::vector<uint64_t> queue_;
  bool unplug_indefinite_ = false;
  bool throttled_ = true;
  uint64_t pkts_current_epoch_ = 0;
  uint64_t pkts_last_epoch_ = 0;
  uint64_t pkts_to_release_ = 0;
};

TEST(PlugQueueTest, RandomScriptsGoAsInTheKernel) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Random random(seed);
    KernelPlug kernel;
    Script script(8);
    std::string steps;
    uint64_t sequence = 0;
    Numbers left;
    Numbers kernel_left;
    for (int i = 0; i < 40; ++i) {
      const char step = "++++BB11A"[random.Below(9)];
      steps += step;
      if (step == '+') {
        kernel.Enqueue(++sequence);
      } else {
        kernel.Change(step);
      }
      const Numbers now = kernel.Drain();
      kernel_left.insert(kernel_left.end(), now.begin(), now.end());
    }
    left = script.Run(steps);
    ASSERT_EQ(left, kernel_left) << "seed " << seed << ": " << steps;
  }
}

}  // namespace
}  // namespace haven
