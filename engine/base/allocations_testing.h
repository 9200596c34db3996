// SPDX-License-Identifier: Apache-2.0
//
// Counts what a test program allocates. Linking this replaces operator new and delete in all of it.
#ifndef HAVEN_ENGINE_BASE_ALLOCATIONS_TESTING_H_
#define HAVEN_ENGINE_BASE_ALLOCATIONS_TESTING_H_

#include <cstddef>

namespace haven {

// Calls of operator new so far, by all threads of the process. From any thread. Stops the process
// if the counter is not the operator new that the program uses (a sanitizer's own would come first
// if this were a shared library): it would find nothing whatever is allocated.
size_t AllocationCount();

}  // namespace haven

#endif  // HAVEN_ENGINE_BASE_ALLOCATIONS_TESTING_H_
