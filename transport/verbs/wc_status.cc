// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/wc_status.h"

namespace haven {

CompletionResult ResultOfWcStatus(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return CompletionResult::kOk;

    // The responder refuses: no write permission on the queue pair (remote invalid request) or on
    // the region (remote access), or it could not carry the operation out.
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return CompletionResult::kPermission;

    // No answer, or for ever "no receive posted".
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RNR_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR:
      return CompletionResult::kRetry;

    case IBV_WC_WR_FLUSH_ERR:
      return CompletionResult::kFlushed;

    // This side's own faults, and features that are not used.
    case IBV_WC_LOC_LEN_ERR:
    case IBV_WC_LOC_QP_OP_ERR:
    case IBV_WC_LOC_EEC_OP_ERR:
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_MW_BIND_ERR:
    case IBV_WC_BAD_RESP_ERR:
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_LOC_RDD_VIOL_ERR:
    case IBV_WC_INV_EECN_ERR:
    case IBV_WC_INV_EEC_STATE_ERR:
    case IBV_WC_FATAL_ERR:
    case IBV_WC_GENERAL_ERR:
    case IBV_WC_TM_ERR:
    case IBV_WC_TM_RNDV_INCOMPLETE:
      return CompletionResult::kOther;
  }
  return CompletionResult::kOther;
}

}  // namespace haven
