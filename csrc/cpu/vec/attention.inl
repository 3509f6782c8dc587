// SPDX-License-Identifier: Apache-2.0

// Paged attention in vectors with online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867);
// see common.inl for how this is included.
//
// The queries that share a KV head (a few tokens x the query heads of its group) are rows. The
// context is walked in tiles of kLanes keys: keys are transposed to [head_dim][kLanes] and values
// widened to [kLanes][head_dim] once per tile in f32 (L1), then all rows use them. Tiles begin at
// multiples of kLanes and one without a key that a row sees leaves that row alone, so a row's result
// does not depend on the other rows.

// The latent vector of DeepSeek V2 and V3: 512 and 64 rotated. The state of an item is 260 KB then.
constexpr int64_t kMaxHeadDim = 576;
constexpr int64_t kMaxRows = 24;
constexpr int64_t kAttentionTokens = 8;
constexpr int64_t kRowTile = 4;
// Tiles of keys that are scored together: a query element that is spread is used for each of them.
// AVX2 has registers for the sums of one.
constexpr int64_t kTiles = kLanes == 16 ? 2 : 1;

bool attention_takes(int64_t head_dim) { return head_dim <= kMaxHeadDim && head_dim % 2 == 0; }

// Rows of q, out and values lie `padded` apart, not kMaxHeadDim: at powers of two they would share
// the few cache sets of one another.
struct AttentionState {
  alignas(64) float q_rows[kMaxRows * kMaxHeadDim];    // [rows, padded], scaled
  alignas(64) float out_rows[kMaxRows * kMaxHeadDim];  // [rows, padded], sum of weight * value
  alignas(64) float value_rows[kTiles * kLanes * kMaxHeadDim];  // [keys, padded], of these tiles
  alignas(64) float keys[kTiles][kMaxHeadDim][kLanes];          // of these tiles
  alignas(64) float weights[kTiles][kMaxRows][kLanes];          // of these tiles; scores at first
  F total[kMaxRows];                                   // sums of weights, by lane
  float max[kMaxRows];
  int64_t begin[kMaxRows];  // first key that the row may see
  int64_t limit[kMaxRows];  // behind the last one
  int64_t rows, padded;     // padded: head_dim up to a multiple of kLanes
  float soft_cap;

  // The tile that holds the first key that any row sees: rows of later tokens begin later.
  int64_t first_tile() const { return begin[0] / kLanes * kLanes; }

  float* q(int64_t row) { return q_rows + row * padded; }
  float* out(int64_t row) { return out_rows + row * padded; }
  float* values(int64_t key) { return value_rows + key * padded; }
};

// Offsets in bytes, in either cache, of the rows of kLanes positions from `position` on; places
// from `context` on repeat the first.
inline void find_rows(const AttentionArgs& a, const AttentionItem& item, int64_t position,
                      int64_t context, int64_t offsets[kLanes]) {
  const int32_t* table = a.block_tables + item.sequence * a.max_blocks + position / a.block_size;
  const int64_t row_bytes = a.head_dim * dtype_bytes(a.dtype);
  int64_t slot = position % a.block_size;
  for (int64_t j = 0; j < kLanes; ++j) {
    if (j >= context - position) {
      offsets[j] = offsets[0];
      continue;
    }
    offsets[j] = ((*table * a.kv_heads + item.kv_head) * a.block_size + slot) * row_bytes;
    if (++slot < a.block_size) continue;
    slot = 0;
    ++table;
  }
}

// f32: kLanes columns of kLanes keys at a time. bf16: pairs of columns are moved as one lane.
template <DType D>
inline void transpose_keys(float (&keys)[kMaxHeadDim][kLanes], const uint8_t* cache,
                           const int64_t offsets[kLanes], int64_t head_dim) {
  constexpr int64_t kPack = D == DType::kF32 ? 1 : 2;
  const int64_t words = head_dim / kPack;
  for (int64_t i = 0; i < words; i += kLanes) {
    F v[kLanes];
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j)
      v[j] = load_some(reinterpret_cast<const float*>(cache + offsets[j]) + i, words - i);
    transpose(v);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      if (i + j >= words) break;
      if constexpr (D == DType::kF32) {
        store(keys[i + j], v[j]);
      } else {
        store(keys[2 * (i + j)], even_bf16(v[j]));
        store(keys[2 * (i + j) + 1], odd_bf16(v[j]));
      }
    }
  }
}

// Columns d .. d + kLanes of a cached value; zero beyond head_dim.
template <DType D>
inline F load_value(const uint8_t* value, int64_t d, int64_t head_dim) {
  return d + kLanes <= head_dim ? load_as<D>(value, d) : load_as_n<D>(value, d, head_dim - d);
}

template <DType D>
inline void widen_values(AttentionState& s, int64_t tile, const uint8_t* cache,
                         const int64_t offsets[kLanes], int64_t head_dim) {
  for (int j = 0; j < kLanes; ++j)
    for (int64_t d = 0; d < s.padded; d += kLanes)
      store(s.values(tile * kLanes + j) + d, load_value<D>(cache + offsets[j], d, head_dim));
}

// Loads a tile of keys and values, from `position` on. One that begins beyond the context repeats the
// last; no row sees it.
template <DType D>
inline void load_tile(AttentionState& s, int64_t tile, const AttentionArgs& a,
                      const AttentionItem& item, int64_t position, int64_t context) {
  int64_t offsets[kLanes] = {};
  find_rows(a, item, position < context ? position : context - 1, context, offsets);
  transpose_keys<D>(s.keys[tile], static_cast<const uint8_t*>(a.k_cache), offsets, a.head_dim);
  widen_values<D>(s, tile, static_cast<const uint8_t*>(a.v_cache), offsets, a.head_dim);
}

// Scores of R rows against the keys of all tiles, into `weights`; even and odd columns in sums of their
// own, to have enough independent additions in flight.
template <int R>
void score_rows(AttentionState& s, int64_t row, int64_t head_dim) {
  F scores[kTiles][R];
  F odd[kTiles][R];
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) scores[t][r] = odd[t][r] = zero();
  for (int64_t d = 0; d < head_dim; d += 2) {
    F k0[kTiles], k1[kTiles];
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t) {
      k0[t] = load(s.keys[t][d]);
      k1[t] = load(s.keys[t][d + 1]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F q0 = set1(s.q(row + r)[d]), q1 = set1(s.q(row + r)[d + 1]);
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) {
        scores[t][r] = fma(q0, k0[t], scores[t][r]);
        odd[t][r] = fma(q1, k1[t], odd[t][r]);
      }
    }
  }
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) store(s.weights[t][row + r], add(scores[t][r], odd[t][r]));
}

// Turns scores into weights relative to the row's largest score so far; rescales what was summed
// under a smaller one.
inline void weigh_row(AttentionState& s, int64_t tile, int64_t row, F scores, int64_t position) {
  const int64_t visible = s.limit[row] - position, hidden = s.begin[row] - position;
  if (visible <= 0 || hidden >= kLanes) {
    store(s.weights[tile][row], zero());
    return;
  }
  if (s.soft_cap > 0.0f) scores = capped(scores, s.soft_cap);
  const F nothing = set1(-__builtin_inff());
  scores = keep_first(scores, nothing, visible);
  if (hidden > 0) scores = keep_first(nothing, scores, hidden);
  const float tile_max = largest(scores);
  if (tile_max > s.max[row]) {
    const F factor = exp_of(set1(s.max[row] - tile_max));
    s.max[row] = tile_max;
    s.total[row] = mul(s.total[row], factor);
    for (int64_t d = 0; d < s.padded; d += kLanes)
      store(s.out(row) + d, mul(load(s.out(row) + d), factor));
  }
  const F weights = exp_of(sub(scores, set1(s.max[row])));
  s.total[row] = add(s.total[row], weights);
  store(s.weights[tile][row], weights);
}

// Columns d .. d + V * kLanes of what R rows sum up.
template <int R, int V>
inline void add_values_at(AttentionState& s, int64_t tile, int64_t row, int64_t d) {
  F sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = load(s.out(row + r) + d + v * kLanes);
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    F value[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) value[v] = load(s.values(tile * kLanes + j) + d + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F weight = set1(s.weights[tile][row + r][j]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = fma(weight, value[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(s.out(row + r) + d + v * kLanes, sums[r][v]);
}

template <int R>
void add_values(AttentionState& s, int64_t tile, int64_t row) {
  int64_t d = 0;
  for (; d + 2 * kLanes <= s.padded; d += 2 * kLanes) add_values_at<R, 2>(s, tile, row, d);
  if (d < s.padded) add_values_at<R, 1>(s, tile, row, d);
}

// fn.template operator()<R>(row) for all rows from `row` on, R at a time.
template <class Fn>
inline void for_rows(const AttentionState& s, int64_t row, const Fn& fn) {
  for (; row + kRowTile <= s.rows; row += kRowTile) fn.template operator()<kRowTile>(row);
  switch (s.rows - row) {
    case 3: return fn.template operator()<3>(row);
    case 2: return fn.template operator()<2>(row);
    case 1: return fn.template operator()<1>(row);
    default: return;
  }
}

// The first row, in steps of kRowTile, that sees the key at `position`: later tokens see more.
inline int64_t first_seeing(const AttentionState& s, int64_t position) {
  int64_t row = 0;
  while (row + kRowTile < s.rows && s.limit[row + kRowTile - 1] <= position) row += kRowTile;
  return row;
}

// All rows against the tiles of keys and values from `position` on. Each step is done for all rows
// before the next: what a row's weights wait for would otherwise keep the arithmetic waiting.
inline void attend_tiles(AttentionState& s, int64_t head_dim, int64_t position) {
  for_rows(s, first_seeing(s, position), [&]<int R>(int64_t row) { score_rows<R>(s, row, head_dim); });
  for (int64_t t = 0; t < kTiles; ++t, position += kLanes) {
    const int64_t first = first_seeing(s, position);
    for (int64_t row = first; row < s.rows; ++row)
      weigh_row(s, t, row, load(s.weights[t][row]), position);
    for_rows(s, first, [&]<int R>(int64_t row) { add_values<R>(s, t, row); });
  }
}

// Rows are (token, head of the group) pairs first_row .. first_row + rows of the item.
inline void begin_rows(AttentionState& s, const AttentionArgs& a, const AttentionItem& item,
                       int64_t first_row, int64_t rows) {
  const int64_t group = a.q_heads / a.kv_heads;
  const F scale = set1(a.scale);
  s.rows = rows;
  s.soft_cap = a.soft_cap;
  s.padded = (a.head_dim + kLanes - 1) / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t index = first_row + r;
    const float* q =
        a.q.row(item.token + index / group) + (item.kv_head * group + index % group) * a.head_dim;
    for (int64_t d = 0; d < s.padded; d += kLanes) {
      store(s.q(r) + d, mul(load_some(q + d, a.head_dim - d), scale));
      store(s.out(r) + d, zero());
    }
    s.total[r] = zero();
    s.max[r] = -__builtin_inff();
    s.limit[r] = item.position + index / group + 1;
    s.begin[r] = a.first_visible(s.limit[r] - 1);
  }
}

inline void finish_rows(AttentionState& s, const AttentionArgs& a, const AttentionItem& item,
                        int64_t first_row) {
  const int64_t group = a.q_heads / a.kv_heads;
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t index = first_row + r;
    float* out =
        a.out.row(item.token + index / group) + (item.kv_head * group + index % group) * a.head_dim;
    const F inverse = set1(1.0f / sum(s.total[r]));
    for (int64_t d = 0; d < a.head_dim; d += kLanes)
      store_some(out + d, mul(load(s.out(r) + d), inverse), a.head_dim - d);
  }
}

// The same for up to kRowTile rows, as in a decode: keys and values are used once, so they go from
// the cache into registers and are not kept. Sums are in the order of score_rows and add_values.
template <DType D, int R>
inline void score_from_cache(const AttentionState& s, const uint8_t* cache,
                             const int64_t offsets[kLanes], int64_t head_dim, F scores[R]) {
  constexpr int64_t kPack = D == DType::kF32 ? 1 : 2;
  const int64_t words = head_dim / kPack, padded = s.padded;
  F odd[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) scores[r] = odd[r] = zero();
  for (int64_t i = 0; i < words; i += kLanes) {
    F v[kLanes];
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j)
      v[j] = load_some(reinterpret_cast<const float*>(cache + offsets[j]) + i, words - i);
    transpose(v);
    const float* q = s.q_rows + kPack * i;
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      if (i + j >= words) break;
      const F first = D == DType::kF32 ? v[j] : even_bf16(v[j]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const float* pair = q + r * padded + kPack * j;
        F& sum = D == DType::kF32 && j % 2 == 1 ? odd[r] : scores[r];
        sum = fma(set1(pair[0]), first, sum);
        if constexpr (D != DType::kF32) odd[r] = fma(set1(pair[1]), odd_bf16(v[j]), odd[r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) scores[r] = add(scores[r], odd[r]);
}

template <DType D, int R, int V>
inline void add_values_from_cache(AttentionState& s, const uint8_t* cache,
                                  const int64_t offsets[kLanes], int64_t head_dim, int64_t d) {
  F sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load(s.out(r) + d + v * kLanes);
#pragma GCC unroll 4
  for (int j = 0; j < kLanes; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const F value = load_value<D>(cache + offsets[j], d + v * kLanes, head_dim);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sums[r][v] = fma(set1(s.weights[0][r][j]), value, sums[r][v]);
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(s.out(r) + d + v * kLanes, sums[r][v]);
}

// Rows that a later tile needs are on their way while this one is computed: block tables lead
// anywhere, which no hardware foresees.
inline void prefetch_rows(const uint8_t* cache, const int64_t offsets[kLanes], int64_t bytes) {
  for (int j = 0; j < kLanes; ++j)
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(cache + offsets[j] + b);
}

template <DType D, int R>
void attend_few(AttentionState& s, const AttentionArgs& a, const AttentionItem& item) {
  // As many sums as registers hold: with fewer, each addition would wait for the one before it.
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  const auto* keys = static_cast<const uint8_t*>(a.k_cache);
  const auto* values = static_cast<const uint8_t*>(a.v_cache);
  const int64_t context = s.limit[R - 1], row_bytes = a.head_dim * dtype_bytes(D);
  const int64_t first = s.first_tile();
  int64_t offsets[kLanes] = {}, next[kLanes] = {};
  find_rows(a, item, first, context, next);
  for (int64_t position = first; position < context; position += kLanes) {
    __builtin_memcpy(offsets, next, sizeof offsets);
    if (position + kLanes < context) {
      find_rows(a, item, position + kLanes, context, next);
      prefetch_rows(keys, next, row_bytes);
      prefetch_rows(values, next, row_bytes);
    }
    F scores[R];
    score_from_cache<D, R>(s, keys, offsets, a.head_dim, scores);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) weigh_row(s, 0, r, scores[r], position);
    int64_t d = 0;
    for (; d + kVectors * kLanes <= s.padded; d += kVectors * kLanes)
      add_values_from_cache<D, R, kVectors>(s, values, offsets, a.head_dim, d);
    for (; d < s.padded; d += kLanes)
      add_values_from_cache<D, R, 1>(s, values, offsets, a.head_dim, d);
  }
}

template <DType D>
void attend(AttentionState& s, const AttentionArgs& a, const AttentionItem& item) {
  switch (s.rows) {
    case 1: return attend_few<D, 1>(s, a, item);
    case 2: return attend_few<D, 2>(s, a, item);
    case 3: return attend_few<D, 3>(s, a, item);
    case 4: return attend_few<D, 4>(s, a, item);
    default: break;
  }
  const int64_t context = s.limit[s.rows - 1];
  for (int64_t position = s.first_tile(); position < context; position += kTiles * kLanes) {
    for (int64_t t = 0; t < kTiles; ++t)
      load_tile<D>(s, t, a, item, position + t * kLanes, context);
    attend_tiles(s, a.head_dim, position);
  }
}

void attention(const AttentionArgs& a, const AttentionItem& item, float*) {
  AttentionState s;
  const int64_t total = item.tokens * (a.q_heads / a.kv_heads);
  for (int64_t row = 0; row < total; row += kMaxRows) {
    begin_rows(s, a, item, row, total - row < kMaxRows ? total - row : kMaxRows);
    if (a.dtype == DType::kF32)
      attend<DType::kF32>(s, a, item);
    else
      attend<DType::kBF16>(s, a, item);
    finish_rows(s, a, item, row);
  }
}
