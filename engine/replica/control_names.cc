// SPDX-License-Identifier: Apache-2.0
#include "engine/replica/control_message.h"

namespace haven {

absl::string_view RefuseCodeName(RefuseCode code) {
  switch (code) {
    case RefuseCode::kVersion:
      return "version";
    case RefuseCode::kFeature:
      return "feature";
    case RefuseCode::kGroupBusy:
      return "group-busy";
    case RefuseCode::kMemory:
      return "memory";
    case RefuseCode::kGeometry:
      return "geometry";
    case RefuseCode::kDomain:
      return "domain";
    case RefuseCode::kAuth:
      return "auth";
    case RefuseCode::kNotReady:
      return "not-ready";
    case RefuseCode::kPromoted:
      return "promoted";
    case RefuseCode::kInternal:
      return "internal";
  }
  return "unknown";
}

absl::string_view DropReasonName(DropReason reason) {
  switch (reason) {
    case DropReason::kUnprotect:
      return "unprotect";
    case DropReason::kShutdown:
      return "shutdown";
    case DropReason::kDeposed:
      return "deposed";
    case DropReason::kSolo:
      return "solo";
    case DropReason::kProtocol:
      return "protocol";
    case DropReason::kVerification:
      return "verification";
    case DropReason::kReplica:
      return "replica";
    case DropReason::kTimeout:
      return "timeout";
    case DropReason::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace haven
