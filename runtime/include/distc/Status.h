// Status and Result<T>: how everything outside the compiler's passes reports failure. No exceptions cross an API of
// ours.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace distc {

enum class Code {
  Ok,
  InvalidArgument,    // what the caller asked for cannot be done
  DataLoss,           // a file is damaged, truncated or not what it claims to be
  FailedPrecondition, // the world is not as it must be (a file moved, a schema of another version)
  ResourceExhausted,  // memory, blocks
  DeadlineExceeded,   // a rank waited too long
  Cancelled,          // interrupted on purpose
  Internal,           // a bug of ours
};

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::Ok; }
  Code code() const { return code_; }
  const std::string &message() const { return message_; }

  /// The same failure, with `prefix` and ": " before its message.
  Status context(std::string_view prefix) const {
    return ok() ? Status() : Status(code_, std::string(prefix) + ": " + message_);
  }

private:
  Code code_ = Code::Ok;
  std::string message_;
};

inline Status invalidArgument(std::string m) { return {Code::InvalidArgument, std::move(m)}; }
inline Status dataLoss(std::string m) { return {Code::DataLoss, std::move(m)}; }
inline Status failedPrecondition(std::string m) { return {Code::FailedPrecondition, std::move(m)}; }
inline Status resourceExhausted(std::string m) { return {Code::ResourceExhausted, std::move(m)}; }
inline Status deadlineExceeded(std::string m) { return {Code::DeadlineExceeded, std::move(m)}; }
inline Status cancelled(std::string m) { return {Code::Cancelled, std::move(m)}; }
inline Status internal(std::string m) { return {Code::Internal, std::move(m)}; }

/// A value of T, or the Status that says why there is none.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : state_(std::move(value)) {}
  Result(Status status) : state_(std::move(status)) { assert(!std::get<Status>(state_).ok()); }

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }

  T &operator*() { return std::get<T>(state_); }
  const T &operator*() const { return std::get<T>(state_); }
  T *operator->() { return &std::get<T>(state_); }
  const T *operator->() const { return &std::get<T>(state_); }
  /// Moves the value out.
  T take() { return std::move(std::get<T>(state_)); }

private:
  std::variant<T, Status> state_;
};

// DISTC_TRY(expression): returns from the enclosing function if the Status is a failure.
#define DISTC_TRY(expression)                                                                                          \
  do {                                                                                                                 \
    if (::distc::Status distcStatus_ = (expression); !distcStatus_.ok())                                               \
      return distcStatus_;                                                                                             \
  } while (false)

// DISTC_ASSIGN(declaration, expression): the value of the Result, or returns its failure.
#define DISTC_CONCAT_(a, b) a##b
#define DISTC_CONCAT(a, b) DISTC_CONCAT_(a, b)
#define DISTC_ASSIGN(declaration, expression)                                                                          \
  auto DISTC_CONCAT(distcResult_, __LINE__) = (expression);                                                            \
  if (!DISTC_CONCAT(distcResult_, __LINE__).ok())                                                                      \
    return DISTC_CONCAT(distcResult_, __LINE__).status();                                                              \
  declaration = DISTC_CONCAT(distcResult_, __LINE__).take()

} // namespace distc
