// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_TOOLSTACK_MONITOR_H_
#define HAVEN_XEN_PRIMARY_TOOLSTACK_MONITOR_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace haven {

// The processes that `xl create` and `xl restore` leave behind for a guest, to do what its
// on_poweroff, on_reboot and on_crash say. While a guest is protected they must not: a guest that
// they start again runs in a new domain, whose output nobody holds, while the copy may be promoted.
// So they are stopped (SIGSTOP), and go on (SIGCONT) when the register has said that the
// protection is over; then they find the end of the guest, and do what is theirs to do.
//
// They are known by the file that they write to: xl-NAME.log, or xl-NAME--incoming.log for a guest
// that has come here by migration or promotion; the toolstack may have given that file a number
// since (xl-NAME.log.1). `proc` is where the kernel shows its processes.
std::vector<pid_t> FindToolstackMonitors(const std::string& guest,
                                         const std::string& proc = "/proc");

// Idempotent. A monitor that ends meanwhile is none.
void StopToolstackMonitors(const std::string& guest);
void ContinueToolstackMonitors(const std::string& guest);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_TOOLSTACK_MONITOR_H_
