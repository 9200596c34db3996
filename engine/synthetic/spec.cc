// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/spec.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/replica/identity.h"
#include "engine/synthetic/mix.h"

namespace haven {
namespace {

constexpr absl::string_view kPrefix = "synthetic";
constexpr absl::string_view kKeys =
    "name, mem, vcpus, dirty, block, locality, hot, fill, output, packet, gate, seed, log, verify";
constexpr uint64_t kKi = 1024;
constexpr uint64_t kMinMemBytes = kKi * kKi;
constexpr uint64_t kMaxMemBytes = kMinMemBytes << 20;
constexpr uint64_t kMinBlockBytes = 64;
constexpr uint64_t kMaxRate = 1'000'000'000;
constexpr uint64_t kMaxGatePackets = uint64_t{4} << 20;

absl::Status Bad(absl::string_view key, absl::string_view value, absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("synthetic guest: ", key, "=", value, ": allowed is ", allowed));
}

// A number with an optional unit. False: not a number, or beyond 64 bits.
bool ParseSize(absl::string_view text, uint64_t& out) {
  uint64_t unit = 1;
  if (!text.empty()) {
    switch (text.back()) {
      case 'K':
        unit = kKi;
        break;
      case 'M':
        unit = kKi * kKi;
        break;
      case 'G':
        unit = kKi * kKi * kKi;
        break;
      default:
        break;
    }
    if (unit != 1) text.remove_suffix(1);
  }
  uint64_t number = 0;
  // SimpleAtoi forgives white space and signs.
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text.front())) ||
      !absl::ascii_isdigit(static_cast<unsigned char>(text.back())) ||
      !absl::SimpleAtoi(text, &number) || number > std::numeric_limits<uint64_t>::max() / unit) {
    return false;
  }
  out = number * unit;
  return true;
}

absl::Status SetCount(absl::string_view key, absl::string_view value, uint64_t low, uint64_t high,
                      uint64_t& field) {
  uint64_t number = 0;
  if (!ParseSize(value, number) || number < low || number > high) {
    return Bad(key, value,
               absl::StrCat("a whole number from ", low, " to ", high, ", with K, M or G if any"));
  }
  field = number;
  return absl::OkStatus();
}

absl::Status SetCount32(absl::string_view key, absl::string_view value, uint32_t low, uint32_t high,
                        uint32_t& field) {
  uint64_t number = 0;
  HAVEN_RETURN_IF_ERROR(SetCount(key, value, low, high, number));
  field = static_cast<uint32_t>(number);
  return absl::OkStatus();
}

absl::Status SetShare(absl::string_view key, absl::string_view value, uint32_t& field_ppm) {
  double share = -1;
  if (!absl::SimpleAtod(value, &share) || !(share >= 0) || !(share <= 1)) {
    return Bad(key, value, "a fraction from 0 to 1");
  }
  field_ppm = static_cast<uint32_t>(share * kPpm + 0.5);
  return absl::OkStatus();
}

absl::Status SetBool(absl::string_view key, absl::string_view value, bool& field) {
  if (value != "0" && value != "1") return Bad(key, value, "0 or 1");
  field = value == "1";
  return absl::OkStatus();
}

absl::Status SetName(absl::string_view value, std::string& field) {
  bool good = !value.empty() && value.size() <= 63 && value.front() != '.';
  for (const char c : value) {
    good = good &&
           (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-');
  }
  if (!good) return Bad("name", value, "1 to 63 of A-Z a-z 0-9 . _ -, the first one no dot");
  field = std::string(value);
  return absl::OkStatus();
}

absl::Status SetLog(absl::string_view value, std::string& field) {
  for (const char c : value) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      return Bad("log", value, "a path without control characters");
    }
  }
  if (value.size() > 300 || value == "unix:") return Bad("log", value, "PATH or unix:PATH");
  field = std::string(value);
  return absl::OkStatus();
}

absl::Status SetField(absl::string_view key, absl::string_view value, SyntheticSpec& spec) {
  if (key == "name") return SetName(value, spec.name);
  if (key == "mem") return SetCount(key, value, kMinMemBytes, kMaxMemBytes, spec.mem_bytes);
  if (key == "vcpus") return SetCount32(key, value, 1, kSyntheticMaxVcpus, spec.vcpus);
  if (key == "dirty") return SetCount(key, value, 0, kMaxRate, spec.dirty_per_second);
  if (key == "block") return SetCount32(key, value, kMinBlockBytes, kPageBytes, spec.block_bytes);
  if (key == "locality") return SetShare(key, value, spec.locality_ppm);
  if (key == "hot") return SetShare(key, value, spec.hot_ppm);
  if (key == "fill") return SetShare(key, value, spec.fill_ppm);
  if (key == "output") return SetCount(key, value, 0, kMaxRate, spec.output_per_second);
  if (key == "packet") return SetCount32(key, value, 64, 65536, spec.packet_bytes);
  if (key == "gate") return SetCount(key, value, 0, uint64_t{1} << 40, spec.gate_bytes);
  if (key == "seed") {
    return SetCount(key, value, 0, std::numeric_limits<uint64_t>::max(), spec.seed);
  }
  if (key == "log") return SetLog(value, spec.log);
  if (key == "verify") return SetBool(key, value, spec.verify);
  return absl::InvalidArgumentError(
      absl::StrCat("synthetic guest: unknown key '", key, "'; the keys are ", kKeys));
}

// Rules between fields.
absl::Status CheckWhole(const SyntheticSpec& spec) {
  if (spec.mem_bytes % kPageBytes != 0) {
    return Bad("mem", absl::StrCat(spec.mem_bytes), "a multiple of 4K");
  }
  if ((spec.block_bytes & (spec.block_bytes - 1)) != 0) {
    return Bad("block", absl::StrCat(spec.block_bytes), "a power of two from 64 to 4K");
  }
  if (spec.gate_bytes / spec.packet_bytes > kMaxGatePackets) {
    return Bad("gate", absl::StrCat(spec.gate_bytes),
               absl::StrCat("at most ", kMaxGatePackets, " packets of packet=", spec.packet_bytes));
  }
  const size_t bytes = FormatSyntheticSpec(spec).size();
  if (bytes > kSyntheticMaxSpecBytes) {
    return absl::InvalidArgumentError(absl::StrCat("synthetic guest: the description has ", bytes,
                                                   " bytes, more than ", kSyntheticMaxSpecBytes,
                                                   "; use a shorter log path"));
  }
  return absl::OkStatus();
}

absl::Status ParseFields(absl::string_view text, SyntheticSpec& spec, absl::string_view only) {
  const std::vector<absl::string_view> allowed = absl::StrSplit(only, ',', absl::SkipEmpty());
  std::set<std::string> seen;
  for (const absl::string_view field : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    if (field.find('=') == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic guest: '", field, "' is not key=value; the keys are ", kKeys));
    }
    if (!allowed.empty() &&
        std::find(allowed.begin(), allowed.end(), pair.first) == allowed.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic guest: key '", pair.first,
                       "' can not differ between hosts; those that can are ", only));
    }
    if (!seen.insert(std::string(pair.first)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic guest: key '", pair.first, "' is given twice"));
    }
    HAVEN_RETURN_IF_ERROR(SetField(pair.first, pair.second, spec));
  }
  return CheckWhole(spec);
}

std::string FormatSize(uint64_t bytes) {
  for (const auto& [shift, unit] : {std::pair{30, "G"}, {20, "M"}, {10, "K"}}) {
    if (bytes != 0 && bytes % (uint64_t{1} << shift) == 0) {
      return absl::StrCat(bytes >> shift, unit);
    }
  }
  return absl::StrCat(bytes);
}

std::string FormatShare(uint32_t ppm) {
  std::string text = absl::StrFormat("%d.%06d", ppm / kPpm, ppm % kPpm);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(absl::string_view text) {
  SyntheticSpec spec;
  if (text.size() > kSyntheticMaxSpecBytes) {
    return absl::InvalidArgumentError(absl::StrCat("synthetic guest: a description of ",
                                                   text.size(), " bytes; at most ",
                                                   kSyntheticMaxSpecBytes, " are allowed"));
  }
  if (text == kPrefix || text == absl::StrCat(kPrefix, ":")) return spec;
  if (text.substr(0, kPrefix.size() + 1) != absl::StrCat(kPrefix, ":")) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a synthetic guest: '", text,
                     "'; expected synthetic:key=value,... with the keys ", kKeys));
  }
  HAVEN_RETURN_IF_ERROR(ParseFields(text.substr(kPrefix.size() + 1), spec, ""));
  return spec;
}

absl::Status OverrideSyntheticSpec(absl::string_view text, SyntheticSpec& spec) {
  if (text.empty()) return absl::OkStatus();
  SyntheticSpec changed = spec;
  HAVEN_RETURN_IF_ERROR(ParseFields(text, changed, "log,verify"));
  spec = std::move(changed);
  return absl::OkStatus();
}

std::string FormatSyntheticSpec(const SyntheticSpec& spec) {
  return absl::StrCat(kPrefix, ":name=", spec.name, ",mem=", FormatSize(spec.mem_bytes),
                      ",vcpus=", spec.vcpus, ",dirty=", spec.dirty_per_second,
                      ",block=", spec.block_bytes, ",locality=", FormatShare(spec.locality_ppm),
                      ",hot=", FormatShare(spec.hot_ppm), ",fill=", FormatShare(spec.fill_ppm),
                      ",output=", spec.output_per_second, ",packet=", spec.packet_bytes,
                      ",gate=", FormatSize(spec.gate_bytes), ",seed=", spec.seed, ",log=", spec.log,
                      ",verify=", spec.verify ? 1 : 0);
}

uint64_t SyntheticContentKey(const SyntheticSpec& spec) {
  uint64_t key = MixIn(0, spec.seed);
  for (const char c : spec.name) key = MixIn(key, static_cast<unsigned char>(c));
  for (const uint64_t field : {uint64_t{spec.name.size()}, spec.mem_bytes, uint64_t{spec.vcpus},
                               uint64_t{spec.block_bytes}, uint64_t{spec.locality_ppm},
                               uint64_t{spec.hot_ppm}, uint64_t{spec.fill_ppm}}) {
    key = MixIn(key, field);
  }
  return key;
}

std::string SyntheticUuid(const SyntheticSpec& spec) {
  const uint64_t key = SyntheticContentKey(spec);
  const uint64_t high = MixIn(key, 1);
  const uint64_t low = MixIn(key, 2);
  return absl::StrFormat("%08x-%04x-8%03x-%04x-%012x", high >> 32, (high >> 16) & 0xffff,
                         high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffffffffffff);
}

}  // namespace haven
