// SPDX-License-Identifier: Apache-2.0
//
// What the thread sanitizer can not see: code of packaged libraries that was built without it.
// Linked into every test of that configuration.

// The sanitizer looks for this name.
extern "C" const char* __tsan_default_suppressions();

const char* __tsan_default_suppressions() {
  // A table filled under absl::call_once, whose synchronisation is in the library's own object.
  return "race:base_internal::StrError\n";
}
