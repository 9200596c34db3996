// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_WC_STATUS_H_
#define HAVEN_TRANSPORT_VERBS_WC_STATUS_H_

#include <infiniband/verbs.h>

#include "transport/fabric.h"

namespace haven {

// What the status of a work completion means to the engine. Every value is mapped; one that this
// release does not know is kOther. Allocates nothing.
//
// Which status a cut-off writer sees depends on how far the peer has come and on its device
// (ibv_modify_qp(3), InfiniBand specification 9.9.2.4): without the permission kPermission, with
// the queue pair destroyed kRetry, behind another failed request kFlushed. None of them proves
// that the bytes did not land.
CompletionResult ResultOfWcStatus(ibv_wc_status status);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_WC_STATUS_H_
