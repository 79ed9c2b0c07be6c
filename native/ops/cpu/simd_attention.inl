// Attention over one KV block with Vec and Ints (simd_kernels.inl). A score is one chain of operations over
// the dimensions, in the lane of its token. A sum of values is one chain over the tokens, in the lane of its
// dimension.

constexpr int64_t kScoreTile = 8;
constexpr int64_t kQueryTile = Vec::kValueQueries;

// The scores of the kLanes tokens that start at `keys`, for kQueries queries, in the order of dimensions.
template <int64_t kQueries>
void scores_tile(const float* keys, const float* q, int64_t head_dim, float* out, int64_t score_stride) {
  Vec sum[kQueries];
  for (int64_t query = 0; query < kQueries; ++query) sum[query] = Vec::zero();
  for (int64_t i = 0; i < head_dim; ++i) {
    const Vec key = Vec::load(keys + i * kBlockTokens);
    for (int64_t query = 0; query < kQueries; ++query)
      sum[query] = Vec::fma(Vec::broadcast(q[query * head_dim + i]), key, sum[query]);
  }
  for (int64_t query = 0; query < kQueries; ++query) sum[query].store(out + query * score_stride);
}

// The same for bf16, two dimensions at a time.
template <int64_t kQueries>
void scores_tile(const uint16_t* keys, const uint16_t* q, int64_t head_dim, float* out,
                 int64_t score_stride) {
  Vec sum[kQueries];
  for (int64_t query = 0; query < kQueries; ++query) sum[query] = Vec::zero();
  for (int64_t i = 0; i < head_dim; i += 2) {
    const Ints key = Ints::load(reinterpret_cast<const std::byte*>(keys + i * kBlockTokens));
    for (int64_t query = 0; query < kQueries; ++query) {
      const Ints pair = Ints::broadcast(reinterpret_cast<const std::byte*>(q + query * head_dim + i));
      sum[query] = dot_bf16(sum[query], key, pair);
    }
  }
  for (int64_t query = 0; query < kQueries; ++query) sum[query].store(out + query * score_stride);
}

template <class Element>
void scores(const Element* keys, const Element* q, int64_t queries, int64_t head_dim, float* out,
            int64_t score_stride) {
  constexpr int64_t kKeyLane = sizeof(Element) == 4 ? 1 : 2;  // adjacent elements of one token
  for (int64_t token = 0; token < kBlockTokens; token += Vec::kLanes) {
    int64_t query = 0;
    for (; query + kScoreTile <= queries; query += kScoreTile)
      scores_tile<kScoreTile>(keys + token * kKeyLane, q + query * head_dim, head_dim,
                              out + query * score_stride + token, score_stride);
    for (; query < queries; ++query)
      scores_tile<1>(keys + token * kKeyLane, q + query * head_dim, head_dim,
                     out + query * score_stride + token, score_stride);
  }
}

// Computes kWidth vectors of the sums, which stay in registers over all tokens.
template <int64_t kQueries, int64_t kWidth, class Element>
void values_tile(const Element* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
                 float* sums) {
  Vec sum[kQueries][kWidth];
  for (int64_t query = 0; query < kQueries; ++query)
    for (int64_t i = 0; i < kWidth; ++i) sum[query][i] = Vec::load(sums + query * stride + i * Vec::kLanes);
  for (int64_t token = 0; token < tokens; ++token) {
    Vec value[kWidth];
    for (int64_t i = 0; i < kWidth; ++i) value[i] = Vec::load(values + token * stride + i * Vec::kLanes);
    for (int64_t query = 0; query < kQueries; ++query) {
      const Vec weight = Vec::broadcast(p[query * p_stride + token]);
      for (int64_t i = 0; i < kWidth; ++i) sum[query][i] = Vec::fma(weight, value[i], sum[query][i]);
    }
  }
  for (int64_t query = 0; query < kQueries; ++query)
    for (int64_t i = 0; i < kWidth; ++i) sum[query][i].store(sums + query * stride + i * Vec::kLanes);
}

template <int64_t kQueries, class Element>
void values_row(const Element* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
                float* sums) {
  constexpr int64_t kWidth = 2;  // enough independent chains to hide the latency of an FMA
  int64_t i = 0;
  for (; i + kWidth * Vec::kLanes <= stride; i += kWidth * Vec::kLanes)
    values_tile<kQueries, kWidth>(values + i, tokens, stride, p, p_stride, sums + i);
  for (; i < stride; i += Vec::kLanes)
    values_tile<kQueries, 1>(values + i, tokens, stride, p, p_stride, sums + i);
}

template <class Element>
void values(const Element* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
            int64_t queries, float* sums) {
  int64_t query = 0;
  for (; query + kQueryTile <= queries; query += kQueryTile)
    values_row<kQueryTile>(values, tokens, stride, p + query * p_stride, p_stride, sums + query * stride);
  for (; query < queries; ++query)
    values_row<1>(values, tokens, stride, p + query * p_stride, p_stride, sums + query * stride);
}
