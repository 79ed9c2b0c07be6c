// Compiles grammars for a gpu node, which ends this process when one takes too long (docs/adr/0061).
//
//   apar_compile_grammar FOLDER BYTES: the folder of the grammar engine's library; the limit of memory.
//
// Frames come on standard input and go to standard output: their length as a uint32, then as many bytes. The
// first frame is the vocabulary: the number of EOS tokens, of tokens, and of markers (token_text.h), the EOS
// tokens, the markers, the offsets of the tokens' bytes (one more than tokens), all int32, and the bytes. It
// is answered by an empty frame. Each other frame is a GrammarKind as int32 and the grammar's text; the
// answer is a byte, 1 with the compiled grammar or 0 with the reason why there is none. The kind may also be
// 0: then the text is a schema of one string and its pattern, with a zero between them, and the answer says
// whether they can be served; or -1, then the answer has the schema as EBNF. Numbers are in the machine's
// order.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "grammar/grammar_engine.h"

namespace {

std::optional<std::string> read_frame() {
  uint32_t length = 0;
  if (std::fread(&length, sizeof(length), 1, stdin) != 1) return std::nullopt;
  std::string frame(length, '\0');
  if (std::fread(frame.data(), 1, length, stdin) != length) return std::nullopt;
  return frame;
}

void write_frame(std::string_view head, std::string_view body) {
  const auto length = static_cast<uint32_t>(head.size() + body.size());
  std::fwrite(&length, sizeof(length), 1, stdout);
  std::fwrite(head.data(), 1, head.size(), stdout);
  std::fwrite(body.data(), 1, body.size(), stdout);
  std::fflush(stdout);
}

std::vector<int32_t> take_ints(std::string_view& frame, size_t count) {
  std::vector<int32_t> values(count);
  if (frame.size() < count * sizeof(int32_t)) throw std::runtime_error("the frame is too short");
  std::memcpy(values.data(), frame.data(), count * sizeof(int32_t));
  frame.remove_prefix(count * sizeof(int32_t));
  return values;
}

apar::GrammarEngine open(const std::string& folder, std::string_view frame) {
  const std::vector<int32_t> counts = take_ints(frame, 3);
  const std::vector<int32_t> eos = take_ints(frame, static_cast<size_t>(counts[0]));
  apar::TokenText text;
  text.markers = take_ints(frame, static_cast<size_t>(counts[2]));
  for (const int32_t offset : take_ints(frame, static_cast<size_t>(counts[1]) + 1))
    text.offsets.push_back(static_cast<uint32_t>(offset));
  text.bytes.assign(frame.begin(), frame.end());
  return {folder, text, eos};
}

void compile(const apar::GrammarEngine& engine, std::string_view frame) {
  constexpr std::string_view kCompiled("\1", 1), kRefused("\0", 1);
  try {
    const int32_t kind = take_ints(frame, 1)[0];
    if (kind == -1) {
      write_frame(kCompiled, engine.ebnf_of(frame));
    } else if (kind == 0) {
      const size_t middle = frame.find('\0');
      engine.check_pattern(frame.substr(0, middle), frame.substr(middle + 1));
      write_frame(kCompiled, {});
    } else {
      write_frame(kCompiled, engine.compile(static_cast<apar::GrammarKind>(kind), frame));
    }
  } catch (const std::bad_alloc&) {
    write_frame(kRefused, "needs too much memory");
  } catch (const std::exception& error) {
    write_frame(kRefused, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: apar_compile_grammar FOLDER BYTES\n";
    return 2;
  }
  const rlim_t bytes = std::strtoull(argv[2], nullptr, 10);
  const rlimit limit = {bytes, bytes};
  setrlimit(RLIMIT_AS, &limit);
  try {
    const std::optional<std::string> vocabulary = read_frame();
    if (!vocabulary) return 0;
    const apar::GrammarEngine engine = open(argv[1], *vocabulary);
    write_frame({}, {});
    while (const std::optional<std::string> frame = read_frame()) compile(engine, *frame);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
