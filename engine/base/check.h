// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_BASE_CHECK_H_
#define HAVEN_ENGINE_BASE_CHECK_H_

#include <concepts>
#include <cstddef>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Checks of our own assumptions. They stay on in every build; a broken one prints the file, the
// line, the expression and its values, and aborts: an engine that is wrong about its own state must
// stop before it releases output. Whatever comes from outside (a peer, a file, a flag, the
// hypervisor) is an absl::Status instead.
//
//   HAVEN_CHECK(ring != nullptr) << "guest=" << guest;
//   HAVEN_CHECK_LE(epoch.bytes, ring_bytes);
//   HAVEN_CHECK_OK(status);
//
// Operands are evaluated once. The success path is one compare and one predicted branch; the
// streamed text is evaluated only on failure. Integers of different signedness compare by value.

namespace haven::check_internal {

// Aborts the process at the end of the statement that made it.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const std::string& what);
  [[noreturn]] ~CheckFailure();
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;

  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Makes both branches of the conditional void; & binds weaker than <<.
struct Voidify {
  void operator&(const std::ostream&) const {}
};

template <typename T>
concept Streamable = requires(std::ostream& out, const T& value) {
  out << value;
};

// Integers that the std::cmp_* functions accept.
template <typename T>
concept ComparableInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> &&
                            !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
                            !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

template <typename T>
void PrintValue(std::ostream& out, const T& value) {
  if constexpr (std::is_enum_v<T>) {
    out << +static_cast<std::underlying_type_t<T>>(value);
  } else if constexpr (std::is_same_v<T, std::nullptr_t>) {
    out << "nullptr";
  } else if constexpr (std::is_integral_v<T> && sizeof(T) == 1 && !std::is_same_v<T, bool>) {
    out << static_cast<int>(value);
  } else if constexpr (Streamable<T>) {
    out << value;
  } else {
    out << "(a value without <<)";
  }
}

// The text of a failed comparison; kept out of the way of the success path. Never freed: the
// process is about to abort.
template <typename A, typename B>
[[gnu::noinline, gnu::cold]] const std::string* FailedCompare(const A& a, const B& b,
                                                              const char* expression) {
  std::ostringstream out;
  out << expression << " (";
  PrintValue(out, a);
  out << " vs. ";
  PrintValue(out, b);
  out << ")";
  return new std::string(out.str());
}

#define HAVEN_CHECK_DEFINE_COMPARE_(name, op, integer_compare)                     \
  template <typename A, typename B>                                                \
  const std::string* Check##name(const A& a, const B& b, const char* expression) { \
    bool holds;                                                                    \
    if constexpr (ComparableInteger<A> && ComparableInteger<B>) {                  \
      holds = integer_compare(a, b);                                               \
    } else {                                                                       \
      holds = static_cast<bool>(a op b);                                           \
    }                                                                              \
    if (holds) [[likely]]                                                          \
      return nullptr;                                                              \
    return FailedCompare(a, b, expression);                                        \
  }
HAVEN_CHECK_DEFINE_COMPARE_(Eq, ==, std::cmp_equal)
HAVEN_CHECK_DEFINE_COMPARE_(Ne, !=, std::cmp_not_equal)
HAVEN_CHECK_DEFINE_COMPARE_(Lt, <, std::cmp_less)
HAVEN_CHECK_DEFINE_COMPARE_(Le, <=, std::cmp_less_equal)
HAVEN_CHECK_DEFINE_COMPARE_(Gt, >, std::cmp_greater)
HAVEN_CHECK_DEFINE_COMPARE_(Ge, >=, std::cmp_greater_equal)
#undef HAVEN_CHECK_DEFINE_COMPARE_

const std::string* CheckOk(const absl::Status& status, const char* expression);

template <typename T>
const std::string* CheckOk(const absl::StatusOr<T>& result, const char* expression) {
  if (result.ok()) [[likely]]
    return nullptr;
  return CheckOk(result.status(), expression);
}

}  // namespace haven::check_internal

#define HAVEN_CHECK(condition)                         \
  __builtin_expect(static_cast<bool>(condition), true) \
      ? static_cast<void>(0)                           \
      : ::haven::check_internal::Voidify() &           \
            ::haven::check_internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

// The loop body never ends normally, so it runs at most once.
#define HAVEN_CHECK_FAILS_(failure)                          \
  while (const std::string* haven_check_failure = (failure)) \
  ::haven::check_internal::CheckFailure(__FILE__, __LINE__, *haven_check_failure).stream()

#define HAVEN_CHECK_COMPARE_(name, op, a, b) \
  HAVEN_CHECK_FAILS_(::haven::check_internal::Check##name((a), (b), #a " " #op " " #b))

#define HAVEN_CHECK_EQ(a, b) HAVEN_CHECK_COMPARE_(Eq, ==, a, b)
#define HAVEN_CHECK_NE(a, b) HAVEN_CHECK_COMPARE_(Ne, !=, a, b)
#define HAVEN_CHECK_LT(a, b) HAVEN_CHECK_COMPARE_(Lt, <, a, b)
#define HAVEN_CHECK_LE(a, b) HAVEN_CHECK_COMPARE_(Le, <=, a, b)
#define HAVEN_CHECK_GT(a, b) HAVEN_CHECK_COMPARE_(Gt, >, a, b)
#define HAVEN_CHECK_GE(a, b) HAVEN_CHECK_COMPARE_(Ge, >=, a, b)

// For an absl::Status or absl::StatusOr.
#define HAVEN_CHECK_OK(expression) \
  HAVEN_CHECK_FAILS_(::haven::check_internal::CheckOk((expression), #expression))

#endif  // HAVEN_ENGINE_BASE_CHECK_H_
