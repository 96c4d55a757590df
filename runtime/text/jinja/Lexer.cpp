#include "runtime/text/jinja/Lexer.h"

#include "runtime/text/Utf8.h"

namespace distc::jinja {

namespace {

bool isSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isNameStart(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string withPlainNewlines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r')
      out += source[i];
    else if (i + 1 == source.size() || source[i + 1] != '\n')
      out += '\n';
  }
  if (out.ends_with('\n'))
    out.pop_back(); // Jinja drops one newline at the end of a template
  return out;
}

class Lexer {
public:
  explicit Lexer(std::string_view source) : source_(withPlainNewlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size())
      data();
    add(Token::End, "");
    return std::move(tokens_);
  }

private:
  [[noreturn]] void fail(const std::string &message) const {
    throw TemplateError{Code::InvalidArgument, "line " + std::to_string(line_) + ": " + message};
  }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool startsWith(std::string_view text) const { return rest().starts_with(text); }

  void add(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(size_t count) {
    for (; count > 0; --count)
      line_ += source_[at_++] == '\n';
  }

  /// Consumes a closing delimiter with its sign; `trims`: a newline right after it goes too.
  void close(std::string_view delimiter, bool trims) {
    bool minus = startsWith("-"), plus = startsWith("+");
    advance(delimiter.size() + (minus || plus ? 1 : 0));
    if (minus)
      while (at_ < source_.size() && isSpace(source_[at_]))
        advance(1);
    else if (trims && !plus && startsWith("\n"))
      advance(1);
  }

  bool closes(std::string_view delimiter, bool allowPlus) const {
    return startsWith(delimiter) || (startsWith("-") && rest().substr(1).starts_with(delimiter)) ||
           (allowPlus && startsWith("+") && rest().substr(1).starts_with(delimiter));
  }

  /// Text up to the next tag, and the tag.
  void data() {
    size_t begin = at_;
    size_t open = begin;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == std::string::npos || open + 1 == source_.size()) {
        addData(source_.substr(begin));
        advance(source_.size() - begin);
        return;
      }
      char next = source_[open + 1];
      if (next == '{' || next == '%' || next == '#')
        break;
    }
    char kind = source_[open + 1];
    char sign = open + 2 < source_.size() ? source_[open + 2] : ' ';
    std::string text = source_.substr(begin, open - begin);
    if (sign == '-') {
      while (!text.empty() && isSpace(text.back()))
        text.pop_back();
    } else if (sign != '+' && kind != '{') {
      // lstrip_blocks: blanks between the start of the line and the tag.
      size_t line = text.rfind('\n') + 1; // 0: no newline in it
      bool isLineStart = line > 0 || begin == 0 || source_[begin - 1] == '\n';
      if (isLineStart && text.find_first_not_of(" \t\v\f", line) == std::string::npos)
        text.resize(line);
    }
    addData(text);
    advance(open - begin + 2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (kind == '#')
      comment();
    else if (kind == '{')
      tag(Token::OutputBegin, Token::OutputEnd, "}}");
    else if (!raw())
      tag(Token::BlockBegin, Token::BlockEnd, "%}");
  }

  void addData(std::string text) {
    if (!text.empty())
      add(Token::Data, std::move(text));
  }

  void comment() {
    size_t end = source_.find("#}", at_);
    if (end == std::string::npos)
      fail("a comment is not closed");
    if (end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+'))
      --end;
    advance(end - at_);
    close("#}", true);
  }

  /// {% raw %} … {% endraw %}: returns false, and consumes nothing, if this is another block.
  bool raw() {
    size_t savedAt = at_;
    int savedLine = line_;
    skipSpace();
    if (startsWith("raw")) {
      advance(3);
      skipSpace();
      if (closes("%}", true)) {
        close("%}", true);
        rawBody();
        return true;
      }
    }
    at_ = savedAt;
    line_ = savedLine;
    return false;
  }

  void rawBody() {
    size_t begin = at_;
    for (size_t open = source_.find("{%", at_); open != std::string::npos; open = source_.find("{%", open + 1)) {
      std::string text = source_.substr(begin, open - begin);
      advance(open + 2 - at_);
      bool minus = startsWith("-");
      if (minus || startsWith("+"))
        advance(1);
      skipSpace();
      if (!startsWith("endraw"))
        continue;
      advance(6);
      skipSpace();
      if (!closes("%}", true))
        continue;
      while (minus && !text.empty() && isSpace(text.back()))
        text.pop_back();
      if (size_t line = text.rfind('\n') + 1; !minus && text.find_first_not_of(" \t", line) == std::string::npos)
        text.resize(line);
      addData(text);
      close("%}", true);
      return;
    }
    fail("{% raw %} is not closed");
  }

  void skipSpace() {
    while (at_ < source_.size() && isSpace(source_[at_]))
      advance(1);
  }

  void tag(Token::Kind begin, Token::Kind end, std::string_view delimiter) {
    add(begin, "");
    std::string brackets;
    for (;;) {
      skipSpace();
      if (at_ == source_.size())
        fail("a tag is not closed, expected " + std::string(delimiter));
      if (brackets.empty() && closes(delimiter, end == Token::BlockEnd)) {
        add(end, "");
        close(delimiter, end == Token::BlockEnd);
        return;
      }
      char c = source_[at_];
      if (c == '\'' || c == '"')
        string(c);
      else if (isDigit(c))
        number();
      else if (isNameStart(c))
        name();
      else
        operatorToken(brackets);
    }
  }

  void name() {
    size_t length = 1;
    while (at_ + length < source_.size() && (isNameStart(source_[at_ + length]) || isDigit(source_[at_ + length])))
      ++length;
    add(Token::Name, source_.substr(at_, length));
    advance(length);
  }

  void number() {
    std::string digits;
    auto take = [&] {
      while (at_ < source_.size() && (isDigit(source_[at_]) || source_[at_] == '_')) {
        if (source_[at_] != '_')
          digits += source_[at_];
        advance(1);
      }
    };
    take();
    bool isFloat = false;
    if (at_ + 1 < source_.size() && source_[at_] == '.' && isDigit(source_[at_ + 1])) {
      isFloat = true;
      digits += '.';
      advance(1);
      take();
    }
    if (at_ + 1 < source_.size() && (source_[at_] | 32) == 'e' &&
        (isDigit(source_[at_ + 1]) || ((source_[at_ + 1] == '-' || source_[at_ + 1] == '+') &&
                                       at_ + 2 < source_.size() && isDigit(source_[at_ + 2])))) {
      isFloat = true;
      digits += source_.substr(at_, 2);
      advance(2);
      take();
    }
    if (at_ < source_.size() && isNameStart(source_[at_]))
      fail("'" + digits + source_[at_] + "' is not a number that is supported");
    add(isFloat ? Token::Float : Token::Integer, digits);
  }

  void operatorToken(std::string &brackets) {
    for (std::string_view known : {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
                                   ">",  "=",  "|",  ".",  ",",  ":",  "(", ")", "[", "]", "{", "}"}) {
      if (!startsWith(known))
        continue;
      size_t open = std::string_view("([{").find(known), shut = std::string_view(")]}").find(known);
      if (known.size() == 1 && open != std::string_view::npos)
        brackets += ")]}"[open];
      if (known.size() == 1 && shut != std::string_view::npos) {
        if (brackets.empty() || brackets.back() != known[0])
          fail("unexpected '" + std::string(known) + "'");
        brackets.pop_back();
      }
      add(Token::Operator, std::string(known));
      advance(known.size());
      return;
    }
    fail("unexpected character '" + std::string(rest().substr(0, text::stepUtf8(rest()).length)) + "'");
  }

  void string(char quote) {
    int line = line_;
    std::string text;
    for (advance(1); at_ < source_.size() && source_[at_] != quote;) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        escape(text);
      } else {
        text += source_[at_];
        advance(1);
      }
    }
    if (at_ == source_.size()) {
      line_ = line;
      fail("a string is not closed");
    }
    advance(1);
    tokens_.push_back({Token::String, std::move(text), line});
  }

  /// Python's escapes; an unknown one stands for itself.
  void escape(std::string &text) {
    char c = source_[at_ + 1];
    constexpr std::string_view letters = "ntrabfv\\'\"", meanings = "\n\t\r\a\b\f\v\\'\"";
    if (size_t i = letters.find(c); i != std::string_view::npos) {
      text += meanings[i];
      return advance(2);
    }
    if (c == '\n')
      return advance(2);
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      char32_t codePoint = 0;
      for (size_t i = 0; i < digits; ++i) {
        size_t where = at_ + 2 + i;
        size_t digit = where < source_.size()
                           ? std::string_view("0123456789abcdef")
                                 .find(isDigit(source_[where]) ? source_[where] : source_[where] | 32)
                           : std::string_view::npos;
        if (digit == std::string_view::npos)
          fail("a \\" + std::string(1, c) + " escape needs " + std::to_string(digits) + " hexadecimal digits");
        codePoint = codePoint << 4 | static_cast<char32_t>(digit);
      }
      if (codePoint > 0x10FFFF || (codePoint >= 0xD800 && codePoint < 0xE000))
        fail("an escape in a string is not a character");
      text::appendUtf8(text, codePoint);
      return advance(2 + digits);
    }
    if (isDigit(c) || c == 'N')
      fail("the escape \\" + std::string(1, c) + " is not supported");
    text += '\\';
    advance(1);
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

} // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

} // namespace distc::jinja
