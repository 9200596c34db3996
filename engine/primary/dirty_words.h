// SPDX-License-Identifier: Apache-2.0
//
// Dirty bitmaps as arrays of words, most of which are zero. How fast they are walked through
// decides how long an idle guest of a terabyte stands still. Nothing here allocates.
#ifndef HAVEN_ENGINE_PRIMARY_DIRTY_WORDS_H_
#define HAVEN_ENGINE_PRIMARY_DIRTY_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace haven {

// Index of the first word at or after `from` that is not zero; words.size() if there is none.
size_t FindNonZero(std::span<const uint64_t> words, size_t from);

// How many bits are set in all words.
uint64_t CountSet(std::span<const uint64_t> words);

// ORs a dirty log into a bitmap of the same size (checked). Reads the log once; touches the bitmap
// only where the log has something.
void MergeDirtyLog(std::span<const uint64_t> log, std::span<uint64_t> bitmap);

// The same, and clears the log.
void MoveDirtyLog(std::span<uint64_t> log, std::span<uint64_t> bitmap);

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_DIRTY_WORDS_H_
