// SPDX-License-Identifier: Apache-2.0
#include "xen/output/vif_names.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace haven {

namespace {

bool IsNumber(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
}

}  // namespace

bool HasVifName(absl::string_view name, uint32_t domid) {
  if (!absl::ConsumePrefix(&name, absl::StrCat("vif", domid, "."))) return false;
  absl::ConsumeSuffix(&name, "-emu");
  return IsNumber(name);
}

bool IsVifOfDomain(const std::string& name, uint32_t domid, const std::string& devices) {
  if (HasVifName(name, domid)) return true;
  std::error_code error;
  const std::filesystem::path device =
      std::filesystem::read_symlink(std::filesystem::path(devices) / name / "device", error);
  if (error) return false;
  const std::string back_end = device.filename().string();
  absl::string_view number = back_end;
  return absl::ConsumePrefix(&number, absl::StrCat("vif-", domid, "-")) && IsNumber(number);
}

absl::StatusOr<std::vector<std::string>> FindVifs(uint32_t domid) {
  const std::unique_ptr<struct if_nameindex, decltype(&if_freenameindex)> links(if_nameindex(),
                                                                                &if_freenameindex);
  if (links == nullptr) {
    return absl::UnavailableError(absl::StrCat("list of the host's network devices for domain ",
                                               domid, ": ", std::strerror(errno)));
  }
  std::vector<std::string> names;
  for (const struct if_nameindex* link = links.get(); link->if_index != 0; ++link) {
    if (IsVifOfDomain(link->if_name, domid)) names.emplace_back(link->if_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace haven
