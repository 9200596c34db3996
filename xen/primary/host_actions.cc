// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/host_actions.h"

#include <cstddef>
#include <filesystem>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/file_util.h"

namespace haven {

namespace {

constexpr size_t kConfigFileMax = size_t{1} << 20;

// Whether xendomains is started and stopped with the host, by systemd's links or the older ones.
bool XendomainsIsEnabled(const std::string& root) {
  std::error_code error;
  if (std::filesystem::exists(
          root + "/etc/systemd/system/multi-user.target.wants/xendomains.service", error)) {
    return true;
  }
  for (const char level : {'2', '3', '4', '5'}) {
    const std::string folder = absl::StrCat(root, "/etc/rc", std::string(1, level), ".d");
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      if (absl::StartsWith(name, "S") && absl::EndsWith(name, "xendomains")) return true;
    }
  }
  return false;
}

// The value of a line NAME=VALUE of a shell script, or nothing.
std::string ShellValue(absl::string_view line, absl::string_view name) {
  if (!absl::ConsumePrefix(&line, name) || !absl::ConsumePrefix(&line, "=")) return "";
  if (!line.empty() && (line[0] == '"' || line[0] == '\'')) {
    return std::string(line.substr(1, line.find(line[0], 1) - 1));
  }
  return std::string(line.substr(0, line.find_first_of(" \t#;")));
}

}  // namespace

std::string AutostartFile(const std::string& root, const std::string& guest) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/etc/xen/auto", error)) {
    const absl::StatusOr<std::string> text = ReadBoundedFile(entry.path().string(), kConfigFileMax);
    if (text.ok() && XlConfigNames(*text, guest)) return entry.path().string();
  }
  return "";
}

std::string ShutdownSetting(const std::string& root) {
  if (!XendomainsIsEnabled(root)) return "";
  for (const char* const folder : {"/etc/default", "/etc/sysconfig"}) {
    const std::string path = absl::StrCat(root, folder, "/xendomains");
    const absl::StatusOr<std::string> text = ReadBoundedFile(path, kConfigFileMax);
    const std::string setting = text.ok() ? XendomainsSetting(*text) : "";
    if (!setting.empty()) return absl::StrCat(setting, " in ", path);
  }
  return "";
}

std::vector<std::string> ReasonsAgainstHost(const std::string& root, const std::string& guest) {
  std::vector<std::string> reasons;
  if (const std::string file = AutostartFile(root, guest); !file.empty()) {
    reasons.push_back(absl::StrCat("this host starts it by itself when it boots (", file,
                                   "), also when it runs elsewhere by then: remove that file"));
  }
  if (const std::string setting = ShutdownSetting(root); !setting.empty()) {
    reasons.push_back(absl::StrCat(
        "this host saves its guests when it shuts down and starts them again when it boots, or "
        "moves them (",
        setting,
        "), also when they run elsewhere by then: set that to nothing, or disable xendomains"));
  }
  return reasons;
}

bool XlConfigNames(absl::string_view text, absl::string_view guest) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripLeadingAsciiWhitespace(line);
    if (!absl::ConsumePrefix(&line, "name")) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    if (!absl::ConsumePrefix(&line, "=")) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    if (line.empty() || (line[0] != '"' && line[0] != '\'')) continue;
    const size_t end = line.find(line[0], 1);
    if (end != absl::string_view::npos && line.substr(1, end - 1) == guest) return true;
  }
  return false;
}

// Its script takes any text for a yes, "false" too.
std::string XendomainsSetting(absl::string_view text) {
  std::string migrate;
  std::string save;
  std::string restore;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (absl::StartsWith(line, "XENDOMAINS_MIGRATE=")) {
      migrate = ShellValue(line, "XENDOMAINS_MIGRATE");
    } else if (absl::StartsWith(line, "XENDOMAINS_SAVE=")) {
      save = ShellValue(line, "XENDOMAINS_SAVE");
    } else if (absl::StartsWith(line, "XENDOMAINS_RESTORE=")) {
      restore = ShellValue(line, "XENDOMAINS_RESTORE");
    }
  }
  if (!migrate.empty()) return absl::StrCat("XENDOMAINS_MIGRATE=", migrate);
  if (!save.empty() && !restore.empty()) return absl::StrCat("XENDOMAINS_SAVE=", save);
  return "";
}

}  // namespace haven
