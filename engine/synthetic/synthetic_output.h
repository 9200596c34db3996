// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_OUTPUT_H_
#define HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_OUTPUT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "engine/primary/output_buffer.h"
#include "engine/synthetic/connection.h"

namespace haven {

// OutputBuffer of a group of synthetic guests: the gate in each guest's process (output_gate.h). A
// command goes to all of them at once and returns when each has carried it out; the first error is
// returned. A guest whose process is dead sends nothing any more: Discard and Remove pass it over.
class SyntheticOutput final : public OutputBuffer {
 public:
  explicit SyntheticOutput(std::vector<std::shared_ptr<SyntheticConnection>> connections);

  absl::Status Hold() override;
  absl::Status Barrier() override;
  absl::Status ReleaseOne() override;
  absl::Status OpenAll() override;
  absl::Status Rebuild() override;
  absl::Status Discard() override;
  absl::Status Remove() override;
  // Sums; the last known ones of a guest that does not answer.
  OutputStats stats() override;
  absl::Status Health() override;

 private:
  struct Member {
    std::shared_ptr<SyntheticConnection> connection;
    bool asked = false;
    OutputStats stats;
  };

  absl::Status CallAll(GuestOp op, bool skip_dead);

  std::vector<Member> members_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_SYNTHETIC_OUTPUT_H_
