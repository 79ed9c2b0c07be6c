#include "grammar/grammar_engine.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <sstream>
#include <utility>

#include "common/error.h"
#include "grammar/trial.h"

namespace apar {
namespace {

using ffi::Value;

std::string type(const char* name) {
  return std::string("xgrammar.tvm_ffi_binding.") + name;
}
Value construct(const char* name, std::span<const ffi::Any> arguments) {
  return ffi::call(ffi::method(type(name), "__ffi_init__"), arguments);
}

class XgrammarMatcher final : public Matcher {
 public:
  explicit XgrammarMatcher(const Value& compiled)
      : matcher_(construct("GrammarMatcher", std::array{compiled.view(), ffi::none(), ffi::boolean(false),
                                                        ffi::integer(-1), ffi::none()})) {}

  void fill(std::span<int32_t> mask) override {
    static const ffi::Function fill = ffi::method(type("GrammarMatcher"), "fill_next_token_bitmask");
    int64_t size = static_cast<int64_t>(mask.size());
    ffi::Tensor tensor;
    tensor.data = mask.data();
    tensor.shape = &size;
    ffi::call(fill, std::array{matcher_.view(), ffi::tensor(tensor), ffi::integer(0), ffi::boolean(false)});
  }

  bool accept(int32_t token) override {
    static const ffi::Function accept = ffi::method(type("GrammarMatcher"), "accept_token");
    return ffi::call(accept, std::array{matcher_.view(), ffi::integer(token), ffi::boolean(false)}).as_bool();
  }

  // Whether it is a whole answer. At most once.
  bool matches(std::string_view answer) {
    const Value text = ffi::string(answer);
    const auto call = [&](const char* name, std::span<const ffi::Any> arguments) {
      return ffi::call(ffi::method(type("GrammarMatcher"), name), arguments).as_bool();
    };
    return call("accept_string", std::array{matcher_.view(), text.view(), ffi::boolean(false)}) &&
           call("is_completed", std::array{matcher_.view()});
  }

 private:
  const Value matcher_;
};

class XgrammarGrammar final : public Grammar {
 public:
  explicit XgrammarGrammar(Value compiled) : compiled_(std::move(compiled)) {}
  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<XgrammarMatcher>(compiled_); }

 private:
  const Value compiled_;
};

// The library warns on standard error of what it leaves out.
class Warnings {
 public:
  Warnings() : before_(std::cerr.rdbuf(text_.rdbuf())) {}
  ~Warnings() { std::cerr.rdbuf(before_); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;

  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* const before_;
};

// The message in "[12:00:00] /path/file.cc:123: Warning: message", which may go on in further lines.
std::string message_of(const std::string& report) {
  const std::string line = report.substr(0, report.find('\n'));
  const size_t place = line.find(".cc:");
  size_t begin = place == std::string::npos ? place : line.find(": ", place);
  if (begin == std::string::npos) return line;
  begin += 2;
  constexpr std::string_view kWarning = "Warning: ";
  return line.substr(line.compare(begin, kWarning.size(), kWarning) == 0 ? begin + kWarning.size() : begin);
}

bool has_control_character(std::span<const uint8_t> text) {
  return std::any_of(text.begin(), text.end(), [](uint8_t byte) { return byte < 0x20; });
}

// `text_of`: the bytes of a token, none for one that fits nothing.
template <typename TextOf>
Value make_vocabulary(const TokenText& text, const std::vector<int32_t>& eos, const TextOf& text_of) {
  const ffi::Function make_array = ffi::global_function("ffi.Array");
  const size_t count = text.offsets.empty() ? 0 : text.offsets.size() - 1;
  std::vector<Value> tokens(count);
  std::vector<ffi::Any> views;
  for (size_t token = 0; token < count; ++token) {
    const auto id = static_cast<int32_t>(token);
    const bool ends = std::find(eos.begin(), eos.end(), id) != eos.end();
    const std::span<const uint8_t> of = text_of(id);
    tokens[token] = ffi::bytes({reinterpret_cast<const char*>(of.data()), ends ? 0 : of.size()});
    views.push_back(tokens[token].view());
  }
  const Value array = ffi::call(make_array, views);
  views.clear();
  for (const int32_t token : eos) views.push_back(ffi::integer(token));
  const Value ends = ffi::call(make_array, views);
  constexpr int64_t kRawBytes = 0;
  return construct("TokenizerInfo",
                   std::array{array.view(), ffi::integer(kRawBytes),
                              ffi::integer(static_cast<int64_t>(count)), ends.view(), ffi::boolean(false)});
}

Value compile_on(const Value& compiler, GrammarKind kind, std::string_view source) {
  const Value text = ffi::string(source);
  const auto compile = [&](const char* name, std::span<const ffi::Any> arguments) {
    return ffi::call(ffi::method(type("GrammarCompiler"), name), arguments);
  };
  if (kind == GrammarKind::regex) return compile("compile_regex", std::array{compiler.view(), text.view()});
  if (kind == GrammarKind::structural_tag)
    return compile("compile_structural_tag", std::array{compiler.view(), text.view()});
  if (kind == GrammarKind::ebnf || kind == GrammarKind::json_ebnf) {
    const Value root = ffi::string("root");
    return compile("compile_grammar_from_strings", std::array{compiler.view(), text.view(), root.view()});
  }
  // JSON on one line, with a space behind each comma and colon: where any white space may come, a small model
  // may write it without end.
  const ffi::Any any_white_space = ffi::boolean(false), strict = ffi::boolean(true);
  return compile("compile_json_schema", std::array{compiler.view(), text.view(), any_white_space, ffi::none(),
                                                   ffi::none(), strict, ffi::none(), ffi::boolean(false)});
}

}  // namespace

GrammarEngine::GrammarEngine(const std::string& folder, const TokenText& text,
                             const std::vector<int32_t>& eos)
    : text_(text), eos_(eos) {
  if (!text_.known()) throw Error(ErrorCode::invalid_config, "the text of the tokens is not known");
  ffi::open_libraries(folder + "/libtvm_ffi.so", folder + "/libxgrammar_bindings.so");
  any_text_ = make_vocabulary(text, eos, [&](int32_t token) { return text.of(token); });
  json_ = make_vocabulary(text, eos, [&](int32_t token) {
    const std::span<const uint8_t> of = text.of(token);
    return has_control_character(of) ? std::span<const uint8_t>() : of;
  });
  if (!text.markers.empty())
    calls_ = make_vocabulary(text, eos, [&](int32_t token) { return text.in_calls(token); });
}

const Value& GrammarEngine::vocabulary_of(GrammarKind kind) const {
  if (kind == GrammarKind::structural_tag && !text_.markers.empty()) return calls_;
  const bool json = kind == GrammarKind::json_schema || kind == GrammarKind::json_ebnf;
  return json ? json_ : any_text_;
}

Value GrammarEngine::compiled(GrammarKind kind, std::string_view text) const {
  constexpr int64_t kThreads = 1, kAnyMemory = -1;
  const Value compiler = construct(
      "GrammarCompiler", std::array{vocabulary_of(kind).view(), ffi::integer(kThreads), ffi::boolean(false),
                                    ffi::integer(kAnyMemory), ffi::boolean(false)});
  return compile_on(compiler, kind, text);
}

std::string GrammarEngine::compile(GrammarKind kind, std::string_view text) const {
  const Warnings warnings;
  std::string serialised(1, static_cast<char>(kind));
  try {
    Value grammar = compiled(kind, text);
    const ffi::Function serialise = ffi::method(type("CompiledGrammar"), "serialize_json");
    serialised += ffi::call(serialise, std::array{grammar.view()}).as_text();
    Trial(text_, eos_).try_masks(XgrammarGrammar(std::move(grammar)));
  } catch (const Error& error) {
    throw Error(error.code(), message_of(error.what()));
  }
  if (!warnings.text().empty()) throw Error(ErrorCode::invalid_request, message_of(warnings.text()));
  return serialised;
}

std::string GrammarEngine::ebnf_of(std::string_view schema) const {
  const Warnings warnings;
  std::string ebnf;
  try {
    const Value text = ffi::string(schema);
    const ffi::Any one_line = ffi::boolean(false), strict = ffi::boolean(true), off = ffi::boolean(false);
    const Value grammar =
        ffi::call(ffi::method(type("Grammar"), "from_json_schema"),
                  std::array{text.view(), one_line, ffi::none(), ffi::none(), strict, ffi::none(), off, off});
    ebnf = ffi::call(ffi::method(type("Grammar"), "to_string"), std::array{grammar.view()}).as_text();
  } catch (const Error& error) {
    throw Error(error.code(), message_of(error.what()));
  }
  if (!warnings.text().empty()) throw Error(ErrorCode::invalid_request, message_of(warnings.text()));
  return ebnf;
}

void GrammarEngine::check_pattern(std::string_view schema, std::string_view pattern) const {
  constexpr int kStrings = 256, kTokens = 24;
  const Warnings warnings;
  try {
    const XgrammarGrammar in_schema(compiled(GrammarKind::json_schema, schema));
    const Value alone = compiled(GrammarKind::regex, pattern);
    Trial trial(text_, eos_);
    trial.try_masks(in_schema);
    for (int i = 0; i < kStrings; ++i) {
      const auto answer = trial.answer(in_schema, kTokens);
      if (!answer || answer->size() < 2) continue;
      // What is escaped in JSON is another text, and not all tokens are whole characters.
      const bool plain =
          std::all_of(answer->begin(), answer->end(), [](char c) { return c > 0 && c != '\\'; });
      if (!plain) continue;
      if (!XgrammarMatcher(alone).matches(std::string_view(*answer).substr(1, answer->size() - 2)))
        throw Error(ErrorCode::invalid_request, "the grammar engine does not keep to the pattern " +
                                                    std::string(pattern) + ": a simpler one may do");
    }
  } catch (const Error& error) {
    throw Error(error.code(), message_of(error.what()));
  }
}

std::shared_ptr<const Grammar> GrammarEngine::load(std::string_view compiled) const {
  if (compiled.empty()) throw Error(ErrorCode::invalid_request, "there is no compiled grammar");
  const Value& vocabulary = vocabulary_of(static_cast<GrammarKind>(compiled[0]));
  const Value json = ffi::string(compiled.substr(1));
  return std::make_shared<XgrammarGrammar>(ffi::call(ffi::method(type("CompiledGrammar"), "deserialize_json"),
                                                     std::array{json.view(), vocabulary.view()}));
}

}  // namespace apar
