// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_BASE_GUEST_NAME_H_
#define HAVEN_XEN_BASE_GUEST_NAME_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xen/base/store.h"

namespace haven {

// A guest's name may change while it is protected (xl rename), a promoted one may have to go
// without its own (another domain has it), and for a moment every promoted one does. So what we
// call a domain is written beside it in the store, and goes with the domain.
absl::Status MarkGuest(XenStore& store, uint32_t domid, const std::string& name);
// Idempotent.
absl::Status UnmarkGuest(XenStore& store, uint32_t domid);

// What becomes of a domain that the store has entries of. A domain can leave some behind: one that
// a toolstack was killed over, and the hypervisor destroyed.
enum class DomainLife : uint8_t {
  kGone,  // For certain.
  kThere,
  kRuns,  // It is not paused.
};

// Whether a domain with this name of the toolstack's is a copy of the guest `name` that waits, or
// has not got its name yet.
bool IsIncomingName(absl::string_view domain, absl::string_view name);

// The domain that is the guest `name`, of those that are there: the one that was marked so; else
// the one of this name, or of this number in decimal; else a promoted copy whose process died
// before it could say so, which runs: a copy that waits is paused. NotFound: there is none. Other
// errors of the store.
absl::StatusOr<uint32_t> FindGuestDomain(XenStore& store, const std::string& name,
                                         const std::function<DomainLife(uint32_t domid)>& look);

}  // namespace haven

#endif  // HAVEN_XEN_BASE_GUEST_NAME_H_
