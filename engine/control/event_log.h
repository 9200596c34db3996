// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_EVENT_LOG_H_
#define HAVEN_ENGINE_CONTROL_EVENT_LOG_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "engine/control/status.h"

namespace haven {

// Appends events to a file, one JSON object a line (EventToJson). When the file would grow beyond
// `max_bytes` it becomes PATH.1, in place of the one before: so at most twice `max_bytes` are kept.
// Several processes of one host may append to one file one after the other (an engine, then its
// successor); each opens it anew for each event. For one thread.
class EventLog {
 public:
  EventLog(std::string path, uint64_t max_bytes) : path_(std::move(path)), max_bytes_(max_bytes) {}

  // A whole line or nothing, as far as the file system has room. Errors of open(2), write(2) and
  // rename(2), naming the file.
  absl::Status Append(const StatusEvent& event) const;

 private:
  const std::string path_;
  const uint64_t max_bytes_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_EVENT_LOG_H_
