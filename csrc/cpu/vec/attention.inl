// SPDX-License-Identifier: Apache-2.0

// Paged attention in vectors with online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867);
// see common.inl for how this is included.
//
// The queries that share a KV head (a few tokens x the query heads of its group) are rows. The
// context is walked in tiles of kTileKeys keys: keys are transposed to [head_dim][kTileKeys] and
// values laid out as [kTileKeys][head_dim] once per tile (L1), then all rows use them. Tiles begin
// at multiples of kTileKeys and one without a key that a row sees leaves that row alone, so a row's
// result does not depend on the other rows.
//
// A lane of a tile is a word: one f32, or a pair of bf16 whose two products are one instruction where
// the ISA has it (Words in its vec.h). Pairs are neighbours in what is summed
// over: columns of keys and queries, keys of values and weights. Queries and weights are rounded to
// bf16 then.

// The latent vector of DeepSeek V2 and V3: 512 and 64 rotated. The state of an item is 370 KB then.
constexpr int64_t kMaxHeadDim = 576;
constexpr int64_t kMaxRows = 48;
constexpr int64_t kRowTile = 4;
// Vectors of keys in a tile: a query word that is spread is used for each of them. AVX2 has
// registers for the sums of one.
constexpr int64_t kTiles = kLanes == 16 ? 2 : 1;
constexpr int64_t kTileKeys = kTiles * kLanes;
// Vectors of columns that are summed at once.
constexpr int kSums = kLanes == 16 ? 4 : 2;
// The sums are rescaled once a score exceeds the one that they are relative to by this power of two.
constexpr float kHeadroom = 8.0f;
constexpr float kLog2E = 1.44269504f;

bool attention_takes(int64_t head_dim) { return head_dim <= kMaxHeadDim && head_dim % 2 == 0; }

// Rows of q, out and values lie some width apart, not kMaxHeadDim: at powers of two they would share
// the few cache sets of one another.
struct AttentionState {
  alignas(64) float q_rows[kMaxRows * kMaxHeadDim];       // words [rows, padded / kPack], scaled
  alignas(64) float out_rows[kMaxRows * kMaxHeadDim];     // [rows, padded], sum of weight * value
  alignas(64) float value_rows[kTileKeys * kMaxHeadDim];  // words [kTileKeys / kPack, padded]
  alignas(64) float keys[kMaxHeadDim][kTileKeys];         // words of a key, of all keys
  alignas(64) float weights[kMaxRows][kTileKeys];         // words, of the keys; scores at first
  F total[kMaxRows];                                      // sums of weights, by lane
  float max[kMaxRows];      // what weights are relative to: 2^(score - max)
  int64_t begin[kMaxRows];  // first key that the row may see
  int64_t limit[kMaxRows];  // behind the last one
  int64_t rows, padded;     // padded: head_dim up to a multiple of kPack * kLanes
  int64_t words;            // of a key
  float soft_cap;

  // The tile that holds the first key that any row sees: rows of later tokens begin later.
  int64_t first_tile() const { return begin[0] / kTileKeys * kTileKeys; }

  template <class W>
  float* q(int64_t row) { return q_rows + row * (padded / W::kPack); }
  float* out(int64_t row) { return out_rows + row * padded; }
  float* values(int64_t step) { return value_rows + step * padded; }
};

// Words that are one f32; the other kind is Bf16Pairs in the vec.h of ISAs that have it.
struct Floats {
  static constexpr int64_t kPack = 1;
  static F dot(F a, F b, F sum) { return fma(a, b, sum); }
  static F pack(const F parts[kPack]) { return parts[0]; }
  static void put_in_order(F[kPack]) {}
  // Keeps the weights of a tile and adds them to their sum.
  static void keep_weights(const F weights[kTiles], float* words, F& total) {
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t) {
      total = add(total, weights[t]);
      store(words + t * kLanes, weights[t]);
    }
  }
};

// Words of a cache's dtype.
template <DType D>
using WordsOf = typename Words<D, Floats>::Type;

// 2^x for x <= kHeadroom; zero below 2^-126 and for NaN. x = n + r with |r| <= 1/2. 2^r by its Taylor
// series to the 7th power, off by less than half a unit in the last place of f32, see exp_of; for
// words of pairs, which keep 8 bits, to the 4th, off by 4.2e-5.
template <class W>
inline F power_of_2(F x) {
  const F lowest = set1(-126.0f);
  const F in = max(lowest, x);
  const F n = round_nearest(in);
  const F r = sub(in, n);
  F p = set1(9.61812911e-3f);
  if constexpr (W::kPack == 1) {
    p = fma(set1(1.52527338e-5f), r, set1(1.54035304e-4f));
    p = fma(p, r, set1(1.33335581e-3f));
    p = fma(p, r, set1(9.61812911e-3f));
  }
  p = fma(p, r, set1(5.55041087e-2f));
  p = fma(p, r, set1(2.40226507e-1f));
  p = fma(p, r, set1(6.93147181e-1f));
  p = fma(p, r, set1(1.0f));
  return zero_below(scale_by_power(p, n), x, lowest);
}

// Offsets in bytes, in either cache, of the rows of a tile's positions. Those that no token of the
// item sees repeat one that is seen: what lies there is anything.
inline void find_rows(const AttentionArgs& a, const AttentionItem& item, int64_t tile,
                      int64_t offsets[kTileKeys]) {
  const int32_t* table = a.block_tables + item.sequence * a.max_blocks;
  const int64_t row_bytes = a.head_dim * dtype_bytes(a.dtype), end = tile + kTileKeys;
  const int64_t seen = a.first_visible(item.position), context = item.position + item.tokens;
  const int64_t first = seen > tile ? seen : tile, last = context < end ? context : end;
  int64_t slot = first % a.block_size;
  table += first / a.block_size;
  for (int64_t p = first; p < last; ++table, slot = 0) {
    int64_t offset = ((*table * a.kv_heads + item.kv_head) * a.block_size + slot) * row_bytes;
    const int64_t end_of_block = p + a.block_size - slot;
    const int64_t stop = end_of_block < last ? end_of_block : last;
    for (; p < stop; ++p, offset += row_bytes) offsets[p - tile] = offset;
  }
  for (int64_t p = tile; p < first; ++p) offsets[p - tile] = offsets[first - tile];
  for (int64_t p = last; p < end; ++p) offsets[p - tile] = offsets[first - tile];
}

// A tile's rows in either cache, and those of the tile after it. Each load of one brings the same piece
// of the next on its way: block tables lead anywhere, which no hardware foresees, and requests that
// are spread over the arithmetic do not wait for one another.
struct TileRows {
  int64_t offsets[kTileKeys];
  int64_t later[kTileKeys];
};

// Zero from n on, which may be 0 or less.
inline F load_up_to(const float* p, int64_t n) { return n > 0 ? load_some(p, n) : zero(); }

// take(word, lanes, odd) for every word of the keys first_key .. first_key + kLanes of a tile, in
// order: `lanes` has it of each key, `odd` says whether its number is. A bf16 that is to be one word
// is widened; otherwise words go as they lie in the cache.
template <DType D, class Take>
inline void for_words(const uint8_t* cache, const TileRows& rows, int64_t first_key, int64_t words,
                      const Take& take) {
  constexpr int64_t kWidened = D == DType::kBF16 && WordsOf<D>::kPack == 1 ? 2 : 1;
  const int64_t lanes = words / kWidened;
  for (int64_t i = 0; i < lanes; i += kLanes) {
    F v[kLanes];
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      const int64_t key = first_key + j;
      v[j] = load_some(reinterpret_cast<const float*>(cache + rows.offsets[key]) + i, lanes - i);
      __builtin_prefetch(cache + rows.later[key] + 4 * i);
    }
    transpose(v);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      if (i + j >= lanes) break;
      if constexpr (kWidened == 2) {
        take(2 * (i + j), even_bf16(v[j]), 0);
        take(2 * (i + j) + 1, odd_bf16(v[j]), 1);
      } else {
        take(i + j, v[j], j % 2);
      }
    }
  }
}

// Words of V vectors of columns, from d on, of kPack values from first_key on; zero beyond head_dim.
template <DType D, int V>
inline void load_values(F words[V], const uint8_t* cache, const TileRows& tile, int64_t first_key,
                        int64_t d, int64_t head_dim) {
  using W = WordsOf<D>;
  if constexpr (W::kPack == 2) {
#pragma GCC unroll 4
    for (int v = 0; v < V; v += 2) {
      const int64_t i = d / 2 + v / 2 * kLanes;
      F rows[2];
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        const uint8_t* row = cache + tile.offsets[first_key + k];
        rows[k] = load_up_to(reinterpret_cast<const float*>(row) + i, head_dim / 2 - i);
        __builtin_prefetch(cache + tile.later[first_key + k] + 4 * i);
      }
      W::interleave(rows[0], rows[1], words + v);
    }
  } else {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t i = d + v * kLanes;
      const uint8_t* row = cache + tile.offsets[first_key];
      words[v] = i + kLanes <= head_dim ? load_as<D>(row, i)
                 : i < head_dim         ? load_as_n<D>(row, i, head_dim - i)
                                        : zero();
      __builtin_prefetch(cache + tile.later[first_key] + i * dtype_bytes(D));
    }
  }
}

template <DType D>
inline void load_tile(AttentionState& s, const AttentionArgs& a, const TileRows& rows) {
  constexpr int64_t kPack = WordsOf<D>::kPack;
  const auto* keys = static_cast<const uint8_t*>(a.k_cache);
  for (int64_t t = 0; t < kTileKeys; t += kLanes)
    for_words<D>(keys, rows, t, s.words,
                 [&](int64_t word, F lanes, int) { store(s.keys[word] + t, lanes); });
  const auto* values = static_cast<const uint8_t*>(a.v_cache);
  for (int64_t j = 0; j < kTileKeys; j += kPack)
    for (int64_t d = 0; d < s.padded; d += kPack * kLanes) {
      F words[kPack];
      load_values<D, kPack>(words, values, rows, j, d, a.head_dim);
      for (int64_t v = 0; v < kPack; ++v) store(s.values(j / kPack) + d + v * kLanes, words[v]);
    }
}

// Scores of R rows against a tile's keys, into `weights`; even and odd words in sums of their own, to
// have enough independent additions in flight.
template <class W, int R>
void score_rows(AttentionState& s, int64_t row) {
  F sums[2][R][kTiles];
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) sums[odd][r][t] = zero();
  const float* q = s.q<W>(row);
  const int64_t q_stride = s.padded / W::kPack;
  const auto add_word = [&](int64_t word, F(&to)[R][kTiles]) {
    F key[kTiles];
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t) key[t] = load(s.keys[word] + t * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F spread = set1(q[r * q_stride + word]);
#pragma GCC unroll 2
      for (int t = 0; t < kTiles; ++t) to[r][t] = W::dot(spread, key[t], to[r][t]);
    }
  };
  int64_t word = 0;
  for (; word + 2 <= s.words; word += 2) {
    add_word(word, sums[0]);
    add_word(word + 1, sums[1]);
  }
  if (word < s.words) add_word(word, sums[0]);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t)
      store(s.weights[row + r] + t * kLanes, add(sums[0][r][t], sums[1][r][t]));
}

// Brings what was summed to the scale of a larger score.
template <class W>
inline void raise_max(AttentionState& s, int64_t row, float score) {
  const F factor = power_of_2<W>(set1(s.max[row] - score));
  s.max[row] = score;
  s.total[row] = mul(s.total[row], factor);
  for (int64_t d = 0; d < s.padded; d += kLanes)
    store(s.out(row) + d, mul(load(s.out(row) + d), factor));
}

// Minus infinity outside of hidden .. visible.
inline void hide_keys(F scores[kTiles], int64_t hidden, int64_t visible) {
  const F nothing = set1(-__builtin_inff());
  for (int t = 0; t < kTiles; ++t, hidden -= kLanes, visible -= kLanes) {
    scores[t] = keep_first(scores[t], nothing, visible > 0 ? visible : 0);
    if (hidden > 0) scores[t] = keep_first(nothing, scores[t], hidden);
  }
}

// Turns a row's scores against the tile at `position` into weights.
template <class W>
inline void weigh_row(AttentionState& s, int64_t row, const F given[kTiles], int64_t position) {
  const int64_t visible = s.limit[row] - position, hidden = s.begin[row] - position;
  float* weights = s.weights[row];
  if (visible <= 0 || hidden >= kTileKeys) {
    for (int64_t i = 0; i < kTileKeys / W::kPack; i += kLanes) store(weights + i, zero());
    return;
  }
  F scores[kTiles];
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t) {
    scores[t] = given[t];
    if (s.soft_cap > 0.0f) scores[t] = mul(capped(scores[t], s.soft_cap), set1(kLog2E));
  }
  if (visible < kTileKeys || hidden > 0) hide_keys(scores, hidden, visible);
  F best = scores[0];
#pragma GCC unroll 2
  for (int t = 1; t < kTiles; ++t) best = max(best, scores[t]);
  if (any_greater(best, set1(s.max[row] + kHeadroom))) raise_max<W>(s, row, largest(best));
  const F reference = set1(s.max[row]);
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t) scores[t] = power_of_2<W>(sub(scores[t], reference));
  W::keep_weights(scores, weights, s.total[row]);
}

// Columns d .. d + V * kLanes of what R rows sum up.
template <class W, int R, int V>
inline void add_values_at(AttentionState& s, int64_t row, int64_t d) {
  F sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load(s.out(row + r) + d + v * kLanes);
#pragma GCC unroll 4
  for (int j = 0; j < kTileKeys / W::kPack; ++j) {
    F value[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) value[v] = load(s.values(j) + d + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F weight = set1(s.weights[row + r][j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = W::dot(weight, value[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(s.out(row + r) + d + v * kLanes, sums[r][v]);
}

template <class W, int R>
void add_values(AttentionState& s, int64_t row) {
  int64_t d = 0;
  for (; d + kSums * kLanes <= s.padded; d += kSums * kLanes)
    add_values_at<W, R, kSums>(s, row, d);
  for (; d < s.padded; d += W::kPack * kLanes) add_values_at<W, R, W::kPack>(s, row, d);
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

// All rows against the tile at `position`. Each step is done for all rows before the next: what a row's
// weights wait for would otherwise keep the arithmetic waiting.
template <class W>
inline void attend_tile(AttentionState& s, int64_t position) {
  const int64_t first = first_seeing(s, position);
  for_rows(s, first, [&]<int R>(int64_t row) { score_rows<W, R>(s, row); });
  for (int64_t row = first; row < s.rows; ++row) {
    F scores[kTiles];
    for (int t = 0; t < kTiles; ++t) scores[t] = load(s.weights[row] + t * kLanes);
    weigh_row<W>(s, row, scores, position);
  }
  for_rows(s, first, [&]<int R>(int64_t row) { add_values<W, R>(s, row); });
}

// The same for up to kRowTile rows, as in a decode: keys and values are used once, so they go from
// the cache into registers and are not kept. Sums are in the order of score_rows and add_values.
template <DType D, int R>
inline void score_from_cache(AttentionState& s, const uint8_t* cache, const TileRows& rows,
                             int64_t first_key, F scores[R]) {
  using W = WordsOf<D>;
  const int64_t q_stride = s.padded / W::kPack;
  F sums[2][R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums[0][r] = sums[1][r] = zero();
  for_words<D>(cache, rows, first_key, s.words, [&](int64_t word, F lanes, int odd) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      sums[odd][r] = W::dot(set1(s.q_rows[r * q_stride + word]), lanes, sums[odd][r]);
  });
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) scores[r] = add(sums[0][r], sums[1][r]);
}

template <DType D, int R, int V>
inline void add_values_from_cache(AttentionState& s, const uint8_t* cache, const TileRows& rows,
                                  int64_t head_dim, int64_t d) {
  using W = WordsOf<D>;
  F sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load(s.out(r) + d + v * kLanes);
#pragma GCC unroll 4
  for (int j = 0; j < kTileKeys / W::kPack; ++j) {
    F value[V];
    load_values<D, V>(value, cache, rows, j * W::kPack, d, head_dim);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F weight = set1(s.weights[r][j]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = W::dot(weight, value[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(s.out(r) + d + v * kLanes, sums[r][v]);
}

template <DType D, int R>
inline void attend_few(AttentionState& s, const AttentionArgs& a, const TileRows& rows,
                       int64_t position) {
  using W = WordsOf<D>;
  const auto* keys = static_cast<const uint8_t*>(a.k_cache);
  const auto* values = static_cast<const uint8_t*>(a.v_cache);
  F scores[kTiles][R];
#pragma GCC unroll 2
  for (int t = 0; t < kTiles; ++t)
    score_from_cache<D, R>(s, keys, rows, t * kLanes, scores[t]);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    F mine[kTiles];
#pragma GCC unroll 2
    for (int t = 0; t < kTiles; ++t) mine[t] = scores[t][r];
    weigh_row<W>(s, r, mine, position);
  }
  int64_t d = 0;
  for (; d + kSums * kLanes <= s.padded; d += kSums * kLanes)
    add_values_from_cache<D, R, kSums>(s, values, rows, a.head_dim, d);
  for (; d < s.padded; d += W::kPack * kLanes)
    add_values_from_cache<D, R, W::kPack>(s, values, rows, a.head_dim, d);
}

template <DType D>
inline void attend(AttentionState& s, const AttentionArgs& a, const TileRows& rows, int64_t position) {
  switch (s.rows) {
    case 1: return attend_few<D, 1>(s, a, rows, position);
    case 2: return attend_few<D, 2>(s, a, rows, position);
    case 3: return attend_few<D, 3>(s, a, rows, position);
    case 4: return attend_few<D, 4>(s, a, rows, position);
    default: break;
  }
  load_tile<D>(s, a, rows);
  attend_tile<WordsOf<D>>(s, position);
}

// Rows are (token, head of the group) pairs first_row .. first_row + rows of the item.
template <class W>
inline void begin_rows(AttentionState& s, const AttentionArgs& a, const AttentionItem& item,
                       int64_t first_row, int64_t rows) {
  constexpr int64_t kStep = W::kPack * kLanes;
  const int64_t group = a.q_heads / a.kv_heads;
  const F scale = set1(a.soft_cap > 0.0f ? a.scale : a.scale * kLog2E);
  s.rows = rows;
  s.soft_cap = a.soft_cap;
  s.padded = (a.head_dim + kStep - 1) / kStep * kStep;
  s.words = a.head_dim / W::kPack;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t index = first_row + r;
    const float* q =
        a.q.row(item.token + index / group) + (item.kv_head * group + index % group) * a.head_dim;
    for (int64_t d = 0; d < s.padded; d += kStep) {
      F parts[W::kPack];
      for (int64_t i = 0, at = d; i < W::kPack; ++i, at += kLanes) {
        parts[i] = mul(load_up_to(q + at, a.head_dim - at), scale);
        store(s.out(r) + at, zero());
      }
      store(s.q<W>(r) + d / W::kPack, W::pack(parts));
    }
    s.total[r] = zero();
    s.max[r] = -__builtin_inff();
    s.limit[r] = item.position + index / group + 1;
    s.begin[r] = a.first_visible(s.limit[r] - 1);
  }
}

template <class W>
inline void finish_rows(AttentionState& s, const AttentionArgs& a, const AttentionItem& item,
                        int64_t first_row) {
  const int64_t group = a.q_heads / a.kv_heads;
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t index = first_row + r;
    float* out =
        a.out.row(item.token + index / group) + (item.kv_head * group + index % group) * a.head_dim;
    const F inverse = set1(1.0f / sum(s.total[r]));
    for (int64_t d = 0; d < s.padded; d += W::kPack * kLanes) {
      F parts[W::kPack];
      for (int64_t i = 0; i < W::kPack; ++i) parts[i] = load(s.out(r) + d + i * kLanes);
      W::put_in_order(parts);
      for (int64_t i = 0, at = d; i < W::kPack && at < a.head_dim; ++i, at += kLanes)
        store_some(out + at, mul(parts[i], inverse), a.head_dim - at);
    }
  }
}

// Up to kMaxRows rows of one item. Behind its last tile comes the first one of the item `next`.
template <DType D>
void attend_rows(AttentionState& s, const AttentionArgs& a, const AttentionItem& item,
                 const AttentionItem& next) {
  const int64_t context = s.limit[s.rows - 1];
  TileRows rows;
  int64_t position = s.first_tile();
  find_rows(a, item, position, rows.later);
  for (; position < context; position += kTileKeys) {
    __builtin_memcpy(rows.offsets, rows.later, sizeof rows.offsets);
    if (position + kTileKeys < context)
      find_rows(a, item, position + kTileKeys, rows.later);
    else
      find_rows(a, next, a.first_visible(next.position) / kTileKeys * kTileKeys, rows.later);
    attend<D>(s, a, rows, position);
  }
}

template <DType D>
void attend_item(const AttentionArgs& a, const AttentionItem& item, const AttentionItem& next) {
  AttentionState s;
  const int64_t total = item.tokens * (a.q_heads / a.kv_heads);
  for (int64_t row = 0; row < total; row += kMaxRows) {
    const int64_t rows = total - row < kMaxRows ? total - row : kMaxRows;
    begin_rows<WordsOf<D>>(s, a, item, row, rows);
    attend_rows<D>(s, a, item, row + rows == total ? next : item);
    finish_rows<WordsOf<D>>(s, a, item, row);
  }
}

void attention(const AttentionArgs& a, const AttentionItem* items, int64_t count, float*) {
  const auto attend_one = a.dtype == DType::kF32 ? attend_item<DType::kF32> : attend_item<DType::kBF16>;
  for (int64_t i = 0; i < count; ++i)
    attend_one(a, items[i], items[i + 1 < count ? i + 1 : i]);
}
