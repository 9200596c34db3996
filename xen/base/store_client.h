// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_STORE_CLIENT_H_
#define HAVEN_XEN_BASE_STORE_CLIENT_H_

#include <memory>

#include "absl/time/time.h"
#include "engine/base/fd.h"
#include "xen/base/store.h"

namespace haven {

// A handle on a connection to a store's daemon: its socket, or the kernel's device for domains
// whose daemon is another one. The descriptor does not block.
std::unique_ptr<XenStore> MakeXenStore(UniqueFd connection, absl::Duration patience);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_STORE_CLIENT_H_
