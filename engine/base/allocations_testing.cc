// SPDX-License-Identifier: Apache-2.0
#include "engine/base/allocations_testing.h"

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/base/check.h"

namespace {

std::atomic<size_t> g_allocations{0};

}  // namespace

void* operator new(size_t bytes) {
  ++g_allocations;
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace haven {

size_t AllocationCount() {
  static const bool kCounts = [] {
    const size_t before = g_allocations;
    ::operator delete(::operator new(1));
    return g_allocations > before;
  }();
  HAVEN_CHECK(kCounts) << "another operator new is in use: link this library statically";
  return g_allocations;
}

}  // namespace haven
