#include "core/draft/ngram_index.h"

#include <algorithm>

namespace apar {
namespace {

constexpr std::array<int32_t, 2> kLengths = {NgramIndex::kShortest, 4};  // [level]
constexpr size_t kFirstBuckets = 256;

}  // namespace

uint64_t NgramIndex::hash(const Text& text, size_t last, int32_t length) {
  uint64_t value = 0;
  for (size_t i = last + 1 - static_cast<size_t>(length); i <= last; ++i)
    value = (value ^ static_cast<uint32_t>(text.tokens[i])) * 0x9e3779b97f4a7c15u;
  return value >> 32;
}

void NgramIndex::append(int32_t text, std::span<const int32_t> tokens) {
  if (texts_.size() <= static_cast<size_t>(text)) texts_.resize(static_cast<size_t>(text) + 1);
  for (const int32_t token : tokens) add(text, token);
}

// An n-gram gets into the index with the token behind it: so the end of a text does not find itself.
void NgramIndex::add(int32_t text, int32_t token) {
  if (num_tokens_ >= max_tokens_) forget_half();
  Text& to = texts_[static_cast<size_t>(text)];
  to.tokens.push_back(token);
  to.earlier.emplace_back();
  ++num_tokens_;
  if (num_tokens_ > newest_[0].size())
    rebuild();
  else if (to.tokens.size() > 1)
    insert(text, to.tokens.size() - 2);
}

void NgramIndex::insert(int32_t text, size_t last) {
  Text& of = texts_[static_cast<size_t>(text)];
  for (size_t level = 0; level < kLengths.size(); ++level) {
    if (last + 1 < static_cast<size_t>(kLengths[level])) continue;
    auto& newest = newest_[level];
    Place& first = newest[hash(of, last, kLengths[level]) & (newest.size() - 1)];
    of.earlier[last][level] = first;
    first = {text, static_cast<int32_t>(last)};
  }
}

void NgramIndex::rebuild() {
  size_t buckets = kFirstBuckets;
  while (buckets <= num_tokens_) buckets *= 2;
  for (auto& newest : newest_) newest.assign(buckets, Place{});
  for (size_t text = 0; text < texts_.size(); ++text)
    for (size_t last = 0; last + 1 < texts_[text].tokens.size(); ++last)
      insert(static_cast<int32_t>(text), last);
}

void NgramIndex::forget_half() {
  num_tokens_ = 0;
  for (Text& text : texts_) {
    const auto half = static_cast<ptrdiff_t>((text.tokens.size() + 1) / 2);
    text.tokens.erase(text.tokens.begin(), text.tokens.begin() + half);
    text.earlier.assign(text.tokens.size(), {});
    num_tokens_ += text.tokens.size();
  }
  rebuild();
}

// How many tokens before the end of `text` and up to `place` are the same.
int32_t NgramIndex::common_length(const Text& text, const Place& place) const {
  const Text& other = texts_[static_cast<size_t>(place.text)];
  int32_t length = 0;
  auto i = static_cast<ptrdiff_t>(text.tokens.size()) - 1;
  auto j = static_cast<ptrdiff_t>(place.last);
  while (length < kMaxLength && i >= 0 && j >= 0 &&
         text.tokens[static_cast<size_t>(i)] == other.tokens[static_cast<size_t>(j)])
    --i, --j, ++length;
  return length;
}

NgramIndex::Match NgramIndex::longest(int32_t text, size_t level) const {
  const Text& of = texts_[static_cast<size_t>(text)];
  Match best;
  if (of.tokens.size() < static_cast<size_t>(kLengths[level])) return best;
  const auto& newest = newest_[level];
  Place place = newest[hash(of, of.tokens.size() - 1, kLengths[level]) & (newest.size() - 1)];
  for (int32_t tries = 0; tries < kMaxTries && place.text >= 0 && best.length < kMaxLength; ++tries) {
    // Other n-grams can have the same hash.
    const int32_t length = common_length(of, place);
    if (length >= kLengths[level] && length > best.length) best = {place, length};
    place = texts_[static_cast<size_t>(place.text)].earlier[static_cast<size_t>(place.last)][level];
  }
  return best;
}

int32_t NgramIndex::continue_text(int32_t text, size_t count, std::vector<int32_t>& out) const {
  out.clear();
  if (static_cast<size_t>(text) >= texts_.size() || count == 0) return 0;
  Match match;
  for (size_t level = kLengths.size(); level-- > 0 && match.length == 0;) match = longest(text, level);
  if (match.length == 0) return 0;
  const Text& from = texts_[static_cast<size_t>(match.place.text)];
  const auto begin = static_cast<size_t>(match.place.last) + 1;
  const size_t known = from.tokens.size() - begin;
  for (size_t i = 0; i < count; ++i) {
    if (i < known)
      out.push_back(from.tokens[begin + i]);
    else if (match.place.text == text)
      out.push_back(out[i - known]);
    else
      break;
  }
  return match.length;
}

}  // namespace apar
