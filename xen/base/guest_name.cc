// SPDX-License-Identifier: Apache-2.0
#include "xen/base/guest_name.h"

#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

constexpr char kDomains[] = "/local/domain";

// The toolstack gives it to a domain that it receives.
constexpr char kIncoming[] = "--incoming";

std::string MarkPath(uint32_t domid) { return absl::StrCat("/libxl/", domid, "/haven-guest"); }

// Nothing if there is no such entry: the domain may have gone meanwhile.
absl::StatusOr<std::optional<std::string>> ReadIfThere(XenStore& store, const std::string& path) {
  absl::StatusOr<std::string> text = store.Read(path);
  if (text.ok()) return std::optional<std::string>(*std::move(text));
  if (absl::IsNotFound(text.status())) return std::optional<std::string>();
  return text.status();
}

}  // namespace

absl::Status MarkGuest(XenStore& store, uint32_t domid, const std::string& name) {
  return store.Write(MarkPath(domid), name);
}

absl::Status UnmarkGuest(XenStore& store, uint32_t domid) { return store.Remove(MarkPath(domid)); }

bool IsIncomingName(absl::string_view domain, absl::string_view name) {
  return absl::ConsumePrefix(&domain, name) && domain == kIncoming;
}

absl::StatusOr<uint32_t> FindGuestDomain(XenStore& store, const std::string& name,
                                         const std::function<DomainLife(uint32_t domid)>& look) {
  HAVEN_ASSIGN_OR_RETURN(const std::vector<std::string> domains, store.List(kDomains));
  std::optional<uint32_t> named;
  std::optional<uint32_t> incoming;
  for (const std::string& text : domains) {
    uint32_t domid = 0;
    if (!absl::SimpleAtoi(text, &domid) || domid == 0) continue;
    HAVEN_ASSIGN_OR_RETURN(const std::optional<std::string> mark,
                           ReadIfThere(store, MarkPath(domid)));
    const auto there = [&look, domid] { return look(domid) != DomainLife::kGone; };
    if (mark == name && there()) return domid;
    HAVEN_ASSIGN_OR_RETURN(const std::optional<std::string> called,
                           ReadIfThere(store, absl::StrCat(kDomains, "/", domid, "/name")));
    if (!named.has_value() && (text == name || called == name) && there()) named = domid;
    if (called.has_value() && IsIncomingName(*called, name) && look(domid) == DomainLife::kRuns) {
      incoming = domid;
    }
  }
  if (named.has_value()) return *named;
  if (incoming.has_value()) return *incoming;
  return absl::NotFoundError(absl::StrCat("no guest ", name, " runs on this host (xl list)"));
}

}  // namespace haven
