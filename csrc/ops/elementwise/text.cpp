#include "ops/elementwise/text.h"

#include <cctype>
#include <charconv>
#include <map>
#include <string_view>

namespace wengert {

namespace {

// How a word is spelled in each dialect, a digit standing for an argument. An empty cell is as the
// one before it. Of those that are not here, operators stand between their arguments, and others
// are functions: exp(0), np.exp(0), Math.exp(0). Functions without np. or Math. come with the
// program (python/wengert/study/numpy_code.py, page.html).
struct Spelling {
  std::string_view word, in[3];  // by Dialect
};
constexpr Spelling spellings[] = {
    {"neg", {"-0"}},
    {"**", {"0 ** 1", "", "pow(0, 1)"}},
    {"//", {"0 // 1", "", "floor_divide(0, 1)"}},
    {"%", {"0 % 1", "", "remainder(0, 1)"}},
    {"&", {"0 & 1", "", "Number(BigInt(0) & BigInt(1))"}},
    {"|", {"0 | 1", "", "Number(BigInt(0) | BigInt(1))"}},
    {"^", {"0 ^ 1", "", "Number(BigInt(0) ^ BigInt(1))"}},
    {"fmod", {"fmod(0, 1)", "np.fmod(0, 1)", "0 % 1"}},
    {"hypot", {"hypot(0, 1)", "np.hypot(0, 1)", "Math.hypot(0, 1)"}},
    {"copysign", {"copysign(0, 1)", "np.copysign(0, 1)", "copysign(0, 1)"}},
    {"atan2", {"atan2(0, 1)", "np.arctan2(0, 1)", "Math.atan2(0, 1)"}},
    {"asin", {"asin(0)", "np.arcsin(0)", "Math.asin(0)"}},
    {"acos", {"acos(0)", "np.arccos(0)", "Math.acos(0)"}},
    {"atan", {"atan(0)", "np.arctan(0)", "Math.atan(0)"}},
    {"asinh", {"asinh(0)", "np.arcsinh(0)", "Math.asinh(0)"}},
    {"acosh", {"acosh(0)", "np.arccosh(0)", "Math.acosh(0)"}},
    {"atanh", {"atanh(0)", "np.arctanh(0)", "Math.atanh(0)"}},
    {"exp2", {"exp2(0)", "np.exp2(0)", "exp2(0)"}},
    {"<<", {"0 << 1", "np.left_shift(0, 1)", "shift_left(0, 1)"}},
    {">>", {"0 >> 1", "np.right_shift(0, 1)", "shift_right(0, 1)"}},
    {"maximum", {"max(0, 1)", "np.maximum(0, 1)", "Math.max(0, 1)"}},
    {"minimum", {"min(0, 1)", "np.minimum(0, 1)", "Math.min(0, 1)"}},
    {"times", {"0 * 1", "times(0, 1)"}},
    {"over", {"0 / 1", "over(0, 1)"}},
    {"sigmoid", {"sigmoid(0)"}},
    {"erf", {"erf(0)"}},
    {"erfinv", {"erfinv(0)"}},
    {"lgamma", {"lgamma(0)"}},
    {"polygamma", {"polygamma(1, 0)"}},
    {"nextafter", {"nextafter(0, 1)", "np.nextafter(0, 1)", "nextafter(0, 1)"}},
    {"round", {"round(0)", "np.round(0)", "round(0)"}},
    {"select", {"1 where 0, else 2", "np.where(0, 1, 2)", "0 ? 1 : 2"}},
};

std::string spelled(std::string_view word, Dialect dialect) {
  for (const Spelling& s : spellings)
    for (auto d = static_cast<int>(dialect); s.word == word && d >= 0; --d)
      if (!s.in[d].empty()) return std::string(s.in[d]);
  if (!std::isalpha(word[0])) return concat("0 ", word, " 1");
  constexpr const char* library[] = {"", "np.", "Math."};
  return concat(library[static_cast<int>(dialect)], word, "(0)");
}

// How tightly a spelling binds: a product more than a sum. `other` operators, on which languages do
// not agree, are given names or brackets only.
enum Binding { chosen, compared, other, added, multiplied, negated, raised, whole };
Binding binding(std::string_view text) {
  if (text.find('(') != text.npos) return whole;
  if (text[0] == '-') return negated;
  const std::string_view sign = text.substr(2, text.find(' ', 2) - 2);
  if (sign == "+" || sign == "-") return added;
  if (sign == "*" || sign == "/") return multiplied;
  if (sign == "**") return raised;
  if (sign == "where" || sign == "?") return chosen;
  return sign[0] == '<' || sign[0] == '>' || sign.ends_with('=') ? compared : other;
}

}  // namespace

struct Text::Writer {
  struct Written {
    std::string text;
    Binding binding;
  };
  Dialect dialect;
  std::map<const Node*, int> uses;
  std::map<const Node*, std::string> names;
  Source lines;

  void count(const Text& x) {
    if (!x.node_->of.empty() && ++uses[x.node_.get()] == 1)
      for (const Text& part : x.node_->of) count(part);
  }

  Written write(const Text& x) {
    const Node& node = *x.node_;
    if (!node.word) {
      char digits[32];
      char* const end = std::to_chars(digits, digits + sizeof digits, node.number).ptr;
      return {std::string(digits, end), node.number < 0 ? negated : whole};
    }
    if (node.of.empty())
      return {dialect == Dialect::numpy ? concat('{', node.word, '}') : node.word, whole};
    if (const auto at = names.find(&node); at != names.end()) return {at->second, whole};

    const std::string pattern = spelled(node.word, dialect);
    Binding found = binding(pattern);
    std::string text;
    for (const char c : pattern) {
      if (c < '0' || c > '2' || (!text.empty() && std::isalnum(text.back()))) {  // log10
        text += c;
        continue;
      }
      const Written part = write(node.of[static_cast<size_t>(c - '0')]);
      // A first operand may bind as its operator does; to readers, the factors and terms of a
      // product and a sum are in no order. -a * b is -(a * b), bit by bit.
      int needed = found + (text.empty() ? 0 : 1);
      if (found == whole) needed = chosen;
      if (found == chosen) needed = c == '2' ? chosen : compared;
      if (found == compared) needed = added;
      if (found == other) needed = whole;
      if (found == negated) needed = multiplied;
      if (found == raised) needed = text.empty() ? whole : negated;
      if (dialect == Dialect::reader && (pattern == "0 * 1" || pattern == "0 + 1")) needed = found;
      text += part.binding < needed ? concat('(', part.text, ')') : part.text;
      if (found == negated && part.binding == multiplied) found = multiplied;
    }
    if (uses[&node] > 1) {
      std::string& called = names[&node];
      called = "?uvwst"[names.size()];
      lines.push_back(concat(called, " = ", text));
      return {called, whole};
    }
    return {text, found};
  }
};

Source Text::write(Dialect dialect) const {
  Writer writer{dialect, {}, {}, {}};
  writer.count(*this);
  std::string result = writer.write(*this).text;
  writer.lines.push_back(std::move(result));
  return std::move(writer.lines);
}

}  // namespace wengert
