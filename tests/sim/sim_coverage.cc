// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_coverage.h"

#include <cstdio>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace haven {

namespace {

struct Table {
  const char* title;
  ProtocolState first;
  ProtocolState count;
};
constexpr Table kTables[] = {
    {"primary, role", 0, kSimRoles},
    {"primary, phase", kSimRoles, kSimPhases},
    {"backup", kSimRoles + kSimPhases, kSimBackups},
    {"guard", kSimRoles + kSimPhases + kSimBackups, kSimGuards},
};

std::string NameOf(const SimPair& pair) {
  const char* title = "";
  for (const Table& table : kTables) {
    if (pair.state >= table.first) title = table.title;
  }
  return absl::StrCat(SimFaultName(pair.fault), " in ", title, " ", ProtocolStateName(pair.state));
}

}  // namespace

const char* ProtocolStateName(ProtocolState state) {
  static constexpr const char* kNames[] = {
      "starting",  "unprotected", "syncing",      "arming",     "protected",  "ended",
      "running",   "stopping",    "taking back",  "stopped",    "holding",    "barrier",
      "capturing", "resuming",    "rebuilding",   "waiting",    "adopting",   "syncing",
      "standby",   "claiming",    "cutting off",  "reading",    "applying",   "preparing",
      "starting",  "running",     "handing back", "stale",      "abandoning", "ended",
      "claiming",  "paused",      "deposed",      "destroying", "opening",    "ending",
      "absent",
  };
  static_assert(std::size(kNames) == kProtocolStates);
  return kNames[state];
}

void SimCoverage::Count(SimFault fault, ProtocolStates states) {
  for (ProtocolState state = 0; state < kProtocolStates; ++state) {
    if ((states >> state & 1) != 0) ++counts_[static_cast<size_t>(fault)][state];
  }
}

void SimCoverage::Add(const SimCoverage& other) {
  for (size_t fault = 0; fault < kSimFaults; ++fault) {
    for (ProtocolState state = 0; state < kProtocolStates; ++state) {
      counts_[fault][state] += other.counts_[fault][state];
    }
  }
  for (const auto& [what, count] : other.told_) told_[what] += count;
}

void SimCoverage::Print() const {
  for (const Table& table : kTables) {
    std::printf("%-22s", table.title);
    for (ProtocolState state = table.first; state < table.first + table.count; ++state) {
      std::printf(" %12s", ProtocolStateName(state));
    }
    std::printf("\n");
    for (size_t i = 0; i < kSimFaults; ++i) {
      const SimFault fault = static_cast<SimFault>(i);
      std::printf("%-22s", SimFaultName(fault));
      for (ProtocolState state = table.first; state < table.first + table.count; ++state) {
        if (count(fault, state) == 0 && WhyNever(fault, state) != nullptr) {
          std::printf(" %12s", "-");
        } else {
          std::printf(" %12llu", static_cast<unsigned long long>(count(fault, state)));
        }
      }
      std::printf("\n");
    }
    std::printf("\n");
  }
  for (const auto& [what, count] : told_) {
    std::printf("%12llu  %s\n", static_cast<unsigned long long>(count), what.c_str());
  }
}

std::vector<std::string> SimCoverage::Gaps() const {
  std::vector<std::string> gaps;
  for (const std::string& report : ReportsToHear()) {
    if (!told_.contains(report)) gaps.push_back(absl::StrCat("never heard: ", report));
  }
  for (const SimPair& pair : PairsToMeet()) {
    if (count(pair.fault, pair.state) != 0 || MetSeldom(pair.fault, pair.state)) continue;
    gaps.push_back(absl::StrCat("never met: ", NameOf(pair)));
  }
  return gaps;
}

std::vector<std::string> SimCoverage::Surprises() const {
  std::vector<std::string> surprises;
  for (size_t i = 0; i < kSimFaults; ++i) {
    for (ProtocolState state = 0; state < kProtocolStates; ++state) {
      const SimPair pair = {static_cast<SimFault>(i), state};
      const char* const never = WhyNever(pair.fault, state);
      if (never == nullptr || count(pair.fault, state) == 0 || MetSeldom(pair.fault, state))
        continue;
      surprises.push_back(absl::StrCat("met: ", NameOf(pair), ", although ", never));
    }
  }
  return surprises;
}

}  // namespace haven
