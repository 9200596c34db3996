// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_PRIMARY_ATTACH_H_
#define HAVEN_XEN_PRIMARY_ATTACH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "engine/primary/domain.h"
#include "xen/primary/refusals.h"

namespace haven {

// What a process wants of a guest.
enum class XenHold : uint8_t {
  kRun,        // To let it run on, or to destroy it.
  kReplicate,  // All of a Domain: its memory is mapped, and its description made.
};

// A guest of this host, held by this process alone.
struct XenGuest {
  UniqueFd hold;
  uint32_t domid = 0;
  std::unique_ptr<Domain> domain;  // memory() and the like only if kReplicate.
  std::unique_ptr<SuspendMethod> suspend;
};

// The number of the domain that is this guest (FindGuestDomain). NotFound: there is none.
// Unavailable: the store does not answer.
absl::StatusOr<uint32_t> FindXenGuest(const std::string& name);

// What goes by this name for us from now on, or not any more (MarkGuest, UnmarkGuest). Errors of
// the store.
absl::Status MarkXenGuest(uint32_t domid, const std::string& name);
absl::Status UnmarkXenGuest(uint32_t domid);

// The name of a running domain. NotFound, Unavailable: as above.
absl::StatusOr<std::string> XenGuestName(uint32_t domid);

// OK if it can be protected; FailedPrecondition names the reasons (refusals.h). NotFound: there is
// no such guest; else errors of toolstack and hypervisor.
absl::Status CheckXenGuest(const std::string& name, const XenRefusalOptions& options);

// Takes hold of a guest; kRun: also of one whose promotion was broken off before it ran, which
// Domain::LetRun lets run. That one is whole is for the group's record to say. NotFound: there is
// none of that name. FailedPrecondition: another process has hold of it, or (kReplicate) it can not
// be protected, as of CheckXenGuest. Else errors of toolstack and hypervisor.
absl::StatusOr<XenGuest> AttachXenGuest(const std::string& name, XenHold hold,
                                        const XenRefusalOptions& options);

}  // namespace haven

#endif  // HAVEN_XEN_PRIMARY_ATTACH_H_
