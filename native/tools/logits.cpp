// Prints the logits of one sequence of tokens, or of branches that continue one, to compare other
// implementations of the same checkpoint (test/native, native/gpu/verify).
//
// Standard input: a model job (model_job.h) and the lines
//   path TOKENS ID...
//   branch TOKENS ID...   a continuation of the path; any number of them
//   rows N                the most rows of a step; default: the whole path, then all branches at once
// Standard output: [tokens, vocab] little-endian f32, of the path and then of each branch.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/error.h"
#include "model/llama.h"
#include "tools/model_job.h"

namespace {

using namespace apar;

struct Node {
  std::vector<int32_t> tokens, blocks;
  int32_t first_offset = 0, first_position = 0;
  int32_t computed = 0;  // tokens

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  int32_t slot(int32_t token) const {
    const int32_t at = first_offset + token;
    return blocks[static_cast<size_t>(at / kBlockTokens)] * kBlockTokens + at % kBlockTokens;
  }
};

struct Work {
  std::vector<Node> nodes;  // the path and its branches
  int32_t rows = std::numeric_limits<int32_t>::max();
};

Work read_work(const ModelJob& job) {
  Work work;
  for (const std::string& line : job.others) {
    std::istringstream words(line);
    std::string key;
    int32_t number = 0;
    words >> key >> number;
    if (key == "rows") {
      work.rows = std::max(number, 1);
    } else if (key == (work.nodes.empty() ? "path" : "branch") && number > 0) {
      std::vector<int32_t>& tokens = work.nodes.emplace_back().tokens;
      tokens.resize(static_cast<size_t>(number));
      for (int32_t& token : tokens) words >> token;
    } else {
      words.setstate(std::ios::failbit);
    }
    if (words.fail()) throw Error(ErrorCode::invalid_config, "cannot read the line: " + line.substr(0, 80));
  }
  if (work.nodes.empty()) throw Error(ErrorCode::invalid_config, "there is no line with a path");
  return work;
}

// Gives every node its blocks and returns their number. As after a fork, the first branch continues in the
// path's last block.
int32_t place(std::vector<Node>& nodes) {
  int32_t blocks = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    Node& node = nodes[i];
    if (i > 0) node.first_position = nodes[0].size();
    if (i == 1) node.first_offset = nodes[0].size() % kBlockTokens;
    if (node.first_offset > 0) node.blocks.push_back(nodes[0].blocks.back());
    while (static_cast<int32_t>(node.blocks.size()) * kBlockTokens < node.first_offset + node.size())
      node.blocks.push_back(blocks++);
  }
  return blocks;
}

// Computes the nodes [first, end), whose parent is the first node of all, and appends each node's logits to
// its own vector.
void compute(Model& model, std::vector<Node>& nodes, size_t first, size_t end, int32_t max_rows,
             std::vector<std::vector<float>>& logits) {
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  for (;;) {
    std::vector<int32_t> tokens, positions, slots, path, rows;
    std::vector<SequenceRows> sequences;
    std::vector<KvNodeView> views;
    std::vector<size_t> owners;
    const auto view = [&](const Node& node) {
      path.push_back(static_cast<int32_t>(views.size()));
      views.push_back({node.blocks, node.first_offset, node.computed});
    };
    if (first > 0) view(nodes[0]), path.clear();
    for (size_t i = first; i < end; ++i) {
      Node& node = nodes[i];
      const auto begin = static_cast<int32_t>(tokens.size());
      const int32_t fair = std::max(1, max_rows / static_cast<int32_t>(end - first));
      const int32_t count = std::min({fair, max_rows - begin, node.size() - node.computed});
      if (count <= 0) continue;
      for (int32_t row = begin; row < begin + count; ++row, ++node.computed) {
        tokens.push_back(node.tokens[static_cast<size_t>(node.computed)]);
        positions.push_back(node.first_position + node.computed);
        slots.push_back(node.slot(node.computed));
        rows.push_back(row);
        owners.push_back(i);
      }
      const auto path_begin = static_cast<int32_t>(path.size());
      if (first > 0) path.push_back(0);
      view(node);
      sequences.push_back({begin, count, path_begin, static_cast<int32_t>(path.size()) - path_begin,
                           node.first_position + node.computed});
    }
    if (tokens.empty()) return;
    std::vector<float> step(tokens.size() * vocab);
    model.forward({tokens, positions, slots, sequences, views, path, rows}, step);
    for (size_t row = 0; row < owners.size(); ++row) {
      const auto from = step.begin() + static_cast<ptrdiff_t>(row * vocab);
      logits[owners[row]].insert(logits[owners[row]].end(), from, from + static_cast<ptrdiff_t>(vocab));
    }
  }
}

std::vector<std::vector<float>> run(const ModelJob& job) {
  auto [nodes, rows] = read_work(job);
  int32_t branches = 0;
  for (size_t i = 1; i < nodes.size(); ++i) branches += nodes[i].size();
  rows = std::min(rows, std::max(nodes[0].size(), branches));
  const int32_t num_blocks = place(nodes);
  const auto model =
      open_llama(job.config, job.weights, job.format(), num_blocks, rows,
                 make_ops_on(job.device, job.threads, std::make_shared<std::string>(), job.devices));
  std::vector<std::vector<float>> logits(nodes.size());
  compute(*model, nodes, 0, 1, rows, logits);
  compute(*model, nodes, 1, nodes.size(), rows, logits);
  return logits;
}

}  // namespace

int main() {
  try {
    for (const std::vector<float>& logits : run(apar::read_model_job(std::cin)))
      if (std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) != logits.size()) return 1;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
