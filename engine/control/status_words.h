// SPDX-License-Identifier: Apache-2.0
//
// The protocol's states in an operator's words.
#ifndef HAVEN_ENGINE_CONTROL_STATUS_WORDS_H_
#define HAVEN_ENGINE_CONTROL_STATUS_WORDS_H_

#include <cstdint>
#include <string>

#include "engine/backup/backup.h"
#include "engine/control/status.h"
#include "engine/membership/register_client.h"
#include "engine/primary/primary.h"
#include "engine/replica/heartbeat.h"

namespace haven {

// Why a group is in its state, and what an operator can do about it (empty: nothing needs doing).
struct Explanation {
  std::string reason;
  std::string remedy;
};
Explanation ExplainPrimary(const Primary& primary, int64_t now_ns);
Explanation ExplainBackup(const Backup& backup);

// "running", "stopping", ...
const char* PhaseWord(Primary::Phase phase);
const char* LinkStateWord(Primary::LinkState state);
// "solo", "promotion", ...; "" for kNothing.
const char* PurposeWord(RegisterPurpose purpose);

// The states of both sides as the status names them. `fresh`: the last commit is young enough to be
// called protection.
ProtectionState BackupProtection(const Backup& backup, bool fresh);

// What the heartbeat says.
PrimaryState PrimaryWireState(const Primary& primary, int64_t now_ns);

RegisterStatus DescribeRegister(const RegisterClient& registers);

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_WORDS_H_
