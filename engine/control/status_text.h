// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_STATUS_TEXT_H_
#define HAVEN_ENGINE_CONTROL_STATUS_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/control/status.h"

namespace haven {

// For people: several lines, each with its newline.
std::string StatusToText(const StatusSnapshot& snapshot, const StatusReading& reading);

// For Prometheus, text format 0.0.4, of any number of groups: each metric has its help and type
// once, and then the values of all groups. Labels are escaped. `haven_state` is 1 for the present
// state; a stale status says `haven_stale` 1 and no state, so that nobody takes it for protected.
class PrometheusText {
 public:
  void Add(const StatusSnapshot& snapshot, const StatusReading& reading);
  std::string Text() const;

 private:
  struct Metric {
    std::string name;
    std::string head;
    std::string values;
  };
  class Group;
  std::vector<Metric> metrics_;
};

// Of one group.
std::string StatusToPrometheus(const StatusSnapshot& snapshot, const StatusReading& reading);

// "12 ms", "3.4 s", "2 min 5 s": for people.
std::string HumanDuration(int64_t ns);
// "812 B", "3.2 MiB".
std::string HumanBytes(uint64_t bytes);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_TEXT_H_
