// SPDX-License-Identifier: Apache-2.0
#include "engine/control/codec_memory.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace haven {

absl::Status CheckCodecMemory(const CodecStageOptions& options,
                              const std::vector<uint64_t>& page_counts, unsigned threads,
                              const MemoryBudgetRoots& roots) {
  if (!options.enabled) return absl::OkStatus();
  const CodecStage::Memory wanted = CodecStage::MemoryFor(options, page_counts, threads);
  const std::string what =
      absl::StrCat("the codec (", wanted.codec.cache_bytes, " bytes for its cache, ",
                   wanted.codec.hash_bytes, " for hashes)");
  // What is of no use is not proposed.
  std::string remedy = "protect with a smaller --codec-cache";
  if (wanted.codec.hash_bytes != 0) {
    absl::StrAppend(&remedy, ", with larger --block-bytes",
                    options.hashes ? ", without --codec-hashes" : "",
                    options.verify ? ", without --verify-blocks" : "");
  }
  absl::StrAppend(&remedy, ", or with --codec=off");
  return CheckMemoryFor(wanted.total(), what, roots, remedy);
}

}  // namespace haven
