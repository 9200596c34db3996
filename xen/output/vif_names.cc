// SPDX-License-Identifier: Apache-2.0
#include "xen/output/vif_names.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "xen/output/output_requests.h"

namespace haven {

namespace {

constexpr absl::string_view kEmulated = "-emu";

bool IsNumber(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
}

// The name of the device on Linux' bus of Xen's back ends.
bool IsBackEndOfDomain(absl::string_view name, uint32_t domid) {
  return absl::ConsumePrefix(&name, absl::StrCat("vif-", domid, "-")) && IsNumber(name);
}

}  // namespace

bool IsVifOfDomain(absl::string_view name, uint32_t domid) {
  if (!absl::ConsumePrefix(&name, absl::StrCat("vif", domid, "."))) return false;
  absl::ConsumeSuffix(&name, kEmulated);
  return IsNumber(name);
}

absl::string_view NicBesideEmulated(absl::string_view name) {
  return absl::ConsumeSuffix(&name, kEmulated) ? name : "";
}

bool IsNicOf(const LinkAnswer& link, std::span<const uint32_t> domains) {
  return std::any_of(domains.begin(), domains.end(), [&](uint32_t domid) {
    return IsVifOfDomain(link.name, domid) || IsBackEndOfDomain(link.back_end, domid);
  });
}

absl::StatusOr<std::vector<std::string>> FindNics(NetlinkChannel& channel,
                                                  std::span<const uint32_t> domains) {
  std::vector<std::string> names;
  std::vector<std::string> others;
  const auto note = [&](nlmsghdr& message) {
    const std::optional<LinkAnswer> link = ReadLink(message);
    if (link) (IsNicOf(*link, domains) ? names : others).push_back(link->name);
  };
  HAVEN_RETURN_IF_ERROR(channel.Dump(DumpLinksRequest(), note, "list of network devices"));
  const std::vector<std::string> own = names;
  std::copy_if(others.begin(), others.end(), std::back_inserter(names),
               [&](const std::string& name) {
                 return std::find(own.begin(), own.end(), NicBesideEmulated(name)) != own.end();
               });
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace haven
