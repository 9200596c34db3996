// SPDX-License-Identifier: Apache-2.0
//
// The backup's listener: one process per session, so that one crash is one guest's (DESIGN.md
// section 3).
#ifndef HAVEN_ENGINE_CONTROL_LISTENER_LOOP_H_
#define HAVEN_ENGINE_CONTROL_LISTENER_LOOP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/control/session_children.h"
#include "transport/endpoint.h"

namespace haven {

struct ListenerOptions {
  std::string address;
  // Runs a session, on the descriptors of session_children.h.
  std::vector<std::string> session_command;
  size_t max_sessions = 64;  // More connections than that wait in the kernel.
  // What whoever has not said yet who he is may take of it.
  ChildLimits limits = {};
  // What an operator has to see to, as of Transport::Warning(): asked for twice a second, logged
  // when it changes. May be null.
  std::function<std::string()> warning = {};
};

// Accepts until `stop_fd` is readable. Reads nothing from a connection: whatever a stranger sends
// reaches a process of its own only. Sessions live on when the listener ends. Errors of the
// beginning only: the address can not be listened at. `ready` is called once the listener listens.
absl::Status RunListener(Transport& transport, const ListenerOptions& options, int stop_fd,
                         const std::function<void(const std::string& address)>& ready);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_LISTENER_LOOP_H_
