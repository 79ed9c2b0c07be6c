#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/grammar.h"
#include "core/token_text.h"
#include "grammar/ffi.h"

namespace apar {

// The values are shared with TypeScript (gpu-node/grammar/grammar-source.ts).
enum class GrammarKind : int32_t {
  json_schema = 1,
  regex = 2,
  ebnf = 3,
  structural_tag = 4,
  json_ebnf = 5  // of texts that are JSON
};

// xgrammar (arXiv 2411.15100), for one vocabulary. Thread-safe, except compile().
class GrammarEngine {
 public:
  // `folder` has the libraries that cli/setup/grammar-engine.mjs gets. Tokens without text, as control
  // tokens, fit no grammar; those of `eos` may come where an answer is complete. Takes about half a second
  // for 50,000 tokens. Throws Error{unavailable} when the libraries cannot be opened.
  GrammarEngine(const std::string& folder, const TokenText& text, const std::vector<int32_t>& eos);

  // The compiled grammar, for load() on an engine of the same vocabulary. Throws Error{invalid_request} for a
  // text that the engine refuses, or of which it would leave something out, or whose tokens take too long to
  // check. May take very long, and any amount of memory: for a process that can be ended.
  std::string compile(GrammarKind kind, std::string_view text) const;

  // The schema as EBNF, for the grammars in a structural tag. Throws as compile().
  std::string ebnf_of(std::string_view schema) const;

  // Throws Error{invalid_request} when random strings of the schema, {"type": "string"} with this `pattern`,
  // do not match it: xgrammar 0.2.9 makes another automaton of some patterns in schemas, of (a|b|ab)? for
  // example, but not of the pattern alone.
  void check_pattern(std::string_view schema, std::string_view pattern) const;

  // Throws Error{invalid_request} for anything but a compiled grammar of this vocabulary.
  std::shared_ptr<const Grammar> load(std::string_view compiled) const;

 private:
  const ffi::Value& vocabulary_of(GrammarKind kind) const;
  ffi::Value compiled(GrammarKind kind, std::string_view text) const;

  const TokenText text_;
  const std::vector<int32_t> eos_;
  ffi::Value any_text_;
  ffi::Value calls_;  // with the texts of markers
  ffi::Value json_;   // without the tokens that have control characters, which JSON does not
};

}  // namespace apar
