#include "test/tree_run.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "test/random_numbers.h"

namespace apar::test {
namespace {

struct Node {
  int32_t begin = 0, end = 0;  // range of the branch's own tokens
  int32_t first_offset = 0;
  std::vector<int32_t> blocks;

  int32_t slot(int32_t own_index) const {
    const int32_t at = first_offset + own_index - begin;
    return blocks[at / kBlockTokens] * kBlockTokens + at % kBlockTokens;
  }
};

class Run {
 public:
  Run(Model& model, const TextTree& tree, const RunOptions& options)
      : model_(model),
        tree_(tree),
        options_(options),
        random_(options.seed),
        nodes_(tree.size()),
        computed_(tree.size(), 0),
        logits_(tree.size()) {
    blocks_.resize(model.num_blocks());
    std::iota(blocks_.begin(), blocks_.end(), 0);
    std::shuffle(blocks_.begin(), blocks_.end(), random_);
    for (size_t branch = 0; branch < tree.size(); ++branch) {
      lay_out(static_cast<int32_t>(branch));
      logits_[branch].assign(tree[branch].own.size() * model.config().vocab_size,
                             std::numeric_limits<float>::quiet_NaN());
    }
  }

  std::vector<std::vector<float>> run() {
    while (step()) {
    }
    return std::move(logits_);
  }

 private:
  void lay_out(int32_t branch) {
    const auto length = static_cast<int32_t>(tree_[branch].own.size());
    const int32_t inherited = tree_[branch].inherited;
    std::multiset<int32_t> ends = {length};
    for (const TextBranch& child : tree_)  // a fork in the own tokens ends a node
      if (child.parent == branch && child.inherited > inherited) ends.insert(child.inherited - inherited);
    for (int32_t i = 0; options_.extra_cuts && i < 4; ++i) ends.insert(random_int(random_, 1, length));
    int32_t begin = 0;
    const Node* above = nullptr;
    for (const int32_t end : ends) {
      if (end == begin && !options_.extra_cuts) continue;
      Node node = {begin, end, 0, {}};
      if (above != nullptr && options_.share_blocks && !above->blocks.empty()) {
        node.first_offset = (above->first_offset + above->end - above->begin) % kBlockTokens;
        if (node.first_offset > 0) node.blocks.push_back(above->blocks.back());
      }
      while (static_cast<int32_t>(node.blocks.size()) * kBlockTokens < node.first_offset + end - begin) {
        node.blocks.push_back(blocks_.back());
        blocks_.pop_back();
      }
      nodes_[branch].push_back(std::move(node));
      above = &nodes_[branch].back();
      begin = end;
    }
  }

  // The nodes that hold the first `tokens` of the branch's path, root first, as indices into views_.
  void append_path(int32_t branch, int32_t tokens) {
    const int32_t inherited = tree_[branch].inherited;
    if (inherited > 0) append_path(tree_[branch].parent, std::min(inherited, tokens));
    for (size_t i = 0; i < nodes_[branch].size(); ++i)
      if (inherited + nodes_[branch][i].begin < tokens)
        path_.push_back(first_view_[branch] + static_cast<int32_t>(i));
  }

  bool ready(int32_t branch) const {
    const TextBranch& text = tree_[branch];
    if (computed_[branch] == static_cast<int32_t>(text.own.size())) return false;
    for (int32_t b = branch; tree_[b].parent >= 0; b = tree_[b].parent)
      if (tree_[tree_[b].parent].inherited + computed_[tree_[b].parent] < tree_[b].inherited) return false;
    return true;
  }

  bool step() {
    std::vector<int32_t> ready_branches;
    for (int32_t branch = 0; branch < static_cast<int32_t>(tree_.size()); ++branch)
      if (ready(branch)) ready_branches.push_back(branch);
    if (ready_branches.empty()) return false;
    std::shuffle(ready_branches.begin(), ready_branches.end(), random_);
    std::vector<std::pair<int32_t, int32_t>> chunks;  // branch, rows
    int32_t room = random_int(random_, 1, options_.rows_per_step);
    for (const int32_t branch : ready_branches) {
      if (room == 0) break;
      const int32_t left = static_cast<int32_t>(tree_[branch].own.size()) - computed_[branch];
      chunks.emplace_back(branch, random_int(random_, 1, std::min(left, room)));
      room -= chunks.back().second;
    }
    for (const auto& [branch, rows] : chunks) computed_[branch] += rows;
    forward(chunks);
    return true;
  }

  void forward(const std::vector<std::pair<int32_t, int32_t>>& chunks) {
    std::vector<KvNodeView> views;
    first_view_.clear();
    path_.clear();
    for (size_t branch = 0; branch < tree_.size(); ++branch) {
      first_view_.push_back(static_cast<int32_t>(views.size()));
      for (const Node& node : nodes_[branch])
        views.push_back({node.blocks, node.first_offset,
                         std::clamp(computed_[branch], node.begin, node.end) - node.begin});
    }
    std::vector<int32_t> tokens, positions, slots, logit_rows;
    std::vector<float*> targets;
    std::vector<SequenceRows> sequences;
    for (const auto& [branch, rows] : chunks) {
      const TextBranch& text = tree_[branch];
      const int32_t context = text.inherited + computed_[branch];
      const auto path_begin = static_cast<int32_t>(path_.size());
      append_path(branch, context);
      sequences.push_back({static_cast<int32_t>(tokens.size()), rows, path_begin,
                           static_cast<int32_t>(path_.size()) - path_begin, context});
      for (int32_t own = computed_[branch] - rows; own < computed_[branch]; ++own) {
        const Node& node = *std::find_if(nodes_[branch].begin(), nodes_[branch].end(),
                                         [&](const Node& n) { return n.begin <= own && own < n.end; });
        if (options_.all_logits || random_() % 2 == 0) {
          logit_rows.push_back(static_cast<int32_t>(tokens.size()));
          targets.push_back(logits_[branch].data() + int64_t{own} * model_.config().vocab_size);
        }
        tokens.push_back(text.own[own]);
        positions.push_back(text.inherited + own);
        slots.push_back(node.slot(own));
      }
    }
    const auto vocab = static_cast<size_t>(model_.config().vocab_size);
    std::vector<float> logits(logit_rows.size() * vocab, -1e30f);
    model_.forward({tokens, positions, slots, sequences, views, path_, logit_rows}, logits);
    for (size_t i = 0; i < targets.size(); ++i) std::copy_n(logits.begin() + i * vocab, vocab, targets[i]);
  }

  Model& model_;
  const TextTree& tree_;
  RunOptions options_;
  std::mt19937 random_;
  std::vector<int32_t> blocks_;           // free blocks
  std::vector<std::vector<Node>> nodes_;  // per branch
  std::vector<int32_t> computed_;         // own tokens per branch
  std::vector<std::vector<float>> logits_;
  std::vector<int32_t> first_view_, path_;
};

// Fills every slot with keys and values of other texts.
void fill_pool(Model& model, uint32_t seed) {
  std::mt19937 random(seed + 1000);
  const int32_t slots_total = model.num_blocks() * kBlockTokens;
  std::vector<int32_t> blocks(model.num_blocks());
  std::iota(blocks.begin(), blocks.end(), 0);
  constexpr int32_t context = 4 * kBlockTokens;  // of each text
  for (int32_t done = 0; done < slots_total;) {
    const int32_t rows = std::min({model.max_rows(), slots_total - done, context - done % context});
    const int32_t base = done / context * context, position = done - base;
    std::vector<int32_t> tokens, positions, slots;
    for (int32_t i = 0; i < rows; ++i) {
      tokens.push_back(random_int(random, 0, model.config().vocab_size - 1));
      positions.push_back(position + i);
      slots.push_back(done + i);
    }
    const auto used = std::span<const int32_t>(blocks).subspan(base / kBlockTokens);
    const KvNodeView node = {used, 0, position + rows};
    const SequenceRows sequence = {0, rows, 0, 1, position + rows};
    const int32_t path = 0;
    model.forward({tokens, positions, slots, {&sequence, 1}, {&node, 1}, {&path, 1}, {}}, {});
    done += rows;
  }
}

}  // namespace

TextTree random_tree(std::mt19937& random, int32_t branches, int32_t vocab_size) {
  TextTree tree;
  for (int32_t branch = 0; branch < branches; ++branch) {
    TextBranch text;
    if (branch > 0 && random() % 6 != 0) {
      text.parent = random_int(random, 0, branch - 1);
      const TextBranch& parent = tree[text.parent];
      text.inherited = random_int(random, parent.inherited + 1,
                                  parent.inherited + static_cast<int32_t>(parent.own.size()));
    }
    const int32_t length = random_int(random, 1, 40);
    for (int32_t i = 0; i < length; ++i) text.own.push_back(random_int(random, 0, vocab_size - 1));
    tree.push_back(std::move(text));
  }
  return tree;
}

std::vector<int32_t> path_tokens(const TextTree& tree, int32_t branch) {
  const TextBranch& text = tree[branch];
  std::vector<int32_t> tokens;
  if (text.parent >= 0) tokens = path_tokens(tree, text.parent);
  tokens.resize(text.inherited);
  tokens.insert(tokens.end(), text.own.begin(), text.own.end());
  return tokens;
}

std::vector<std::vector<float>> run_tree(Model& model, const TextTree& tree, const RunOptions& options) {
  fill_pool(model, options.seed);
  return Run(model, tree, options).run();
}

}  // namespace apar::test
