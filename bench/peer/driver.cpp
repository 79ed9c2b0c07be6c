// Runs llama.cpp for the bench: one command per line on standard input, one JSON object per line on standard
// output, {"tokens", "seconds"} or {"error": "..."}. Sampling is greedy. The first argument is the number of
// threads, default 2.
//   quantize FROM TO q8_0|q4_0          FROM is a GGUF file in BF16
//   load PATH CELLS SEQUENCES f16|f32   the KV cache holds CELLS tokens of this type
//   prefill ID...                       time to the first token of a new prompt
//   decode ROWS EACH ID...              ROWS sequences share the prompt and decode EACH tokens after the first one;
//                                       the prompt's prefill is not counted
//   logits FILE ID...                   writes little-endian f32 [ids, vocabulary] to FILE
//   tokenize FROM TO                    writes the ids of each text of FROM, which end with a zero byte, as a line of TO
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama.h"

namespace {

using Clock = std::chrono::steady_clock;
using Tokens = std::vector<llama_token>;

double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

struct ModelFree {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
struct ContextFree {
  void operator()(llama_context* context) const { llama_free(context); }
};

struct Answer {
  int64_t tokens = 0;
  double seconds = 0;
};

// A batch that owns its arrays; llama.cpp reads them only during llama_decode.
class Batch {
 public:
  explicit Batch(int32_t capacity) : batch_(llama_batch_init(capacity, 0, 1)) {}
  ~Batch() { llama_batch_free(batch_); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  void clear() { batch_.n_tokens = 0; }

  void add(llama_token token, int32_t position, llama_seq_id sequence, bool wants_logits) {
    const int32_t row = batch_.n_tokens++;
    batch_.token[row] = token;
    batch_.pos[row] = position;
    batch_.n_seq_id[row] = 1;
    batch_.seq_id[row][0] = sequence;
    batch_.logits[row] = wants_logits ? 1 : 0;
  }

  void decode(llama_context* context) const {
    const int32_t code = llama_decode(context, batch_);
    if (code != 0) throw std::runtime_error("llama_decode gave " + std::to_string(code));
  }

 private:
  llama_batch batch_;
};

class Peer {
 public:
  explicit Peer(int32_t threads) : threads_(threads) {}

  Answer load(const std::string& path, uint32_t cells, uint32_t sequences, const std::string& kv_type) {
    const auto begun = Clock::now();
    context_.reset();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_.reset(llama_model_load_from_file(path.c_str(), model_params));
    if (!model_) throw std::runtime_error("cannot load " + path);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = cells;
    params.n_batch = kMaxBatch;
    params.n_seq_max = sequences;
    params.n_threads = threads_;
    params.n_threads_batch = threads_;
    params.kv_unified = true;  // sequences share the cells of their common prompt
    if (kv_type == "f32") {
      params.type_k = params.type_v = GGML_TYPE_F32;
      params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;  // it would round keys and values to f16
    }
    context_.reset(llama_init_from_model(model_.get(), params));
    if (!context_) throw std::runtime_error("cannot open a context for " + path);
    vocab_size_ = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
    return {0, seconds_since(begun)};
  }

  Answer prefill(const Tokens& prompt) {
    const auto begun = Clock::now();
    read_prompt(prompt);
    greedy(-1);
    return {static_cast<int64_t>(prompt.size()), seconds_since(begun)};
  }

  Answer decode(int32_t rows, int32_t each, const Tokens& prompt) {
    read_prompt(prompt);
    Tokens last(static_cast<size_t>(rows), greedy(-1));
    for (int32_t row = 1; row < rows; ++row) llama_memory_seq_cp(memory(), 0, row, -1, -1);
    Batch batch(rows);
    const auto begun = Clock::now();
    for (int32_t step = 0; step < each; ++step) {
      batch.clear();
      const int32_t position = static_cast<int32_t>(prompt.size()) + step;
      for (int32_t row = 0; row < rows; ++row) batch.add(last[static_cast<size_t>(row)], position, row, true);
      batch.decode(context());
      for (int32_t row = 0; row < rows; ++row) last[static_cast<size_t>(row)] = greedy(row);
    }
    return {static_cast<int64_t>(rows) * each, seconds_since(begun)};
  }

  Answer tokenize(const std::string& from, const std::string& to) const {
    std::ifstream in(from, std::ios::binary);
    std::ofstream out(to);
    const llama_vocab* vocab = llama_model_get_vocab(model_.get());
    Answer answer;
    for (std::string text; std::getline(in, text, '\0');) {
      const auto size = static_cast<int32_t>(text.size());
      Tokens ids(text.size() + 1);
      const int32_t count =
          llama_tokenize(vocab, text.data(), size, ids.data(), static_cast<int32_t>(ids.size()), false, false);
      if (count < 0) throw std::runtime_error("llama_tokenize gave " + std::to_string(count));
      for (int32_t i = 0; i < count; ++i) out << ids[static_cast<size_t>(i)] << ' ';
      out << '\n';
      answer.tokens += count;
    }
    if (!in.eof() || !out) throw std::runtime_error("cannot tokenize " + from);
    return answer;
  }

  Answer logits(const std::string& file, const Tokens& path) {
    llama_memory_clear(memory(), true);
    Batch batch(static_cast<int32_t>(path.size()));
    for (size_t i = 0; i < path.size(); ++i) batch.add(path[i], static_cast<int32_t>(i), 0, true);
    batch.decode(context());
    const std::unique_ptr<FILE, int (*)(FILE*)> out(std::fopen(file.c_str(), "wb"), &std::fclose);
    if (!out) throw std::runtime_error("cannot write " + file);
    for (size_t i = 0; i < path.size(); ++i) {
      const float* row = llama_get_logits_ith(context(), static_cast<int32_t>(i));
      const auto size = static_cast<size_t>(vocab_size_);
      if (std::fwrite(row, sizeof(float), size, out.get()) != size) throw std::runtime_error("cannot write");
    }
    return {static_cast<int64_t>(path.size()), 0};
  }

 private:
  static constexpr uint32_t kMaxBatch = 2048;

  llama_context* context() const {
    if (!context_) throw std::runtime_error("no model is loaded");
    return context_.get();
  }

  llama_memory_t memory() const { return llama_get_memory(context()); }

  // Clears the KV cache and prefills the prompt as sequence 0; computes logits for its last token only.
  void read_prompt(const Tokens& prompt) {
    if (prompt.empty()) throw std::runtime_error("the prompt is empty");
    llama_memory_clear(memory(), false);
    Batch batch(kMaxBatch);
    for (size_t i = 0; i < prompt.size(); ++i) {
      const bool is_last = i + 1 == prompt.size();
      batch.add(prompt[i], static_cast<int32_t>(i), 0, is_last);
      if (is_last || (i + 1) % kMaxBatch == 0) {
        batch.decode(context());
        batch.clear();
      }
    }
  }

  llama_token greedy(int32_t row) const {
    const float* logits = llama_get_logits_ith(context(), row);
    return static_cast<llama_token>(std::max_element(logits, logits + vocab_size_) - logits);
  }

  int32_t threads_;
  int32_t vocab_size_ = 0;
  std::unique_ptr<llama_model, ModelFree> model_;
  std::unique_ptr<llama_context, ContextFree> context_;
};

// Quantises every matrix to the same type, including the output layer, so that both sides read the same
// number of bytes: by default llama.cpp keeps more bits there with q4_0.
Answer quantize(const std::string& from, const std::string& to, const std::string& type) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  if (type != "q8_0" && type != "q4_0") throw std::runtime_error("unknown type " + type);
  params.ftype = type == "q8_0" ? LLAMA_FTYPE_MOSTLY_Q8_0 : LLAMA_FTYPE_MOSTLY_Q4_0;
  params.pure = true;
  const auto begun = Clock::now();
  if (llama_model_quantize(from.c_str(), to.c_str(), &params) != 0)
    throw std::runtime_error("cannot quantize " + from);
  return {0, seconds_since(begun)};
}

Tokens read_ids(std::istream& in) {
  Tokens ids;
  for (llama_token id; in >> id;) ids.push_back(id);
  if (!in.eof()) throw std::runtime_error("not a token id");
  return ids;
}

Answer run_command(Peer& peer, const std::string& line) {
  std::istringstream in(line);
  std::string name, from, to, type;
  int32_t rows = 0, each = 0;
  uint32_t cells = 0, sequences = 0;
  in >> name;
  if (name == "quantize" && in >> from >> to >> type) return quantize(from, to, type);
  if (name == "load" && in >> from >> cells >> sequences >> type)
    return peer.load(from, cells, sequences, type);
  if (name == "prefill") return peer.prefill(read_ids(in));
  if (name == "decode" && in >> rows >> each) return peer.decode(rows, each, read_ids(in));
  if (name == "tokenize" && in >> from >> to) return peer.tokenize(from, to);
  if (name == "logits" && in >> to) return peer.logits(to, read_ids(in));
  throw std::runtime_error("cannot read the command " + name);
}

void log_errors(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

}  // namespace

int main(int argc, char** argv) {
  llama_log_set(log_errors, nullptr);
  llama_backend_init();
  Peer peer(argc > 1 ? std::atoi(argv[1]) : 2);
  for (std::string line; std::getline(std::cin, line);) {
    try {
      const Answer answer = run_command(peer, line);
      std::printf("{\"tokens\":%lld,\"seconds\":%.9f}\n", static_cast<long long>(answer.tokens),
                  answer.seconds);
    } catch (const std::exception& error) {
      // Not escaped: the only error texts with special characters contain a path, and paths are the bench's own.
      std::printf("{\"error\":\"%s\"}\n", error.what());
    }
    std::fflush(stdout);
  }
}
