// Attention of the rows of a forward over a paged cache, without copying a prefix.
//
// A task is a few rows of one sequence and one key-value head; the rows' query heads are its
// *lanes*, at most sixteen. Every lane's sums run over its keys one by one in the order of their
// slots. A key that a lane may not see adds exactly zero, so neither other branches of a draft
// tree nor other rows change its bits.
#pragma once

#include <vector>

#include "products.h"

namespace stride {

// What a forward is to compute; filled in by decoding/native/forward.py.
struct Batch {
  int32_t rows, sequences, wanted;
  const int64_t* tokens;     // [rows]
  const int64_t* positions;  // [rows]
  const int64_t* parents;    // [rows], the row before this one in its sequence's tree, or -1
  const int64_t* counts;     // [sequences], their rows
  const int64_t* starts;     // [sequences], their cached tokens
  const int64_t* slots;      // of each sequence's cached tokens and rows, one after the other
  const int64_t* outputs;    // [wanted], the rows whose logits are wanted
  void* cache;               // [layers, slots, 2, key-value heads, head size]
  int64_t cache_slots;
};

struct HeadShape {
  int heads, kv_heads, size, rotary;
  int groups() const { return heads / kv_heads; }
};

// Some rows of one sequence, and the keys they may see.
struct RowGroup {
  int first_row, rows;
  const int64_t* slots;
  int start;     // keys before this one are seen by all
  int keys;      // keys up to the last row's own
  size_t masks;  // where the lanes that see key `start`, `start + 1`, ... are in Groups::masks
};

// The rows of a batch, cut for attention: the same in every layer with the same window.
class RowGroups {
 public:
  RowGroups(const Batch& batch, int groups, int window) : window_(window) {
    const int most = kLanes / groups;
    const int64_t* slots = batch.slots;
    for (int sequence = 0, first = 0; sequence < batch.sequences; ++sequence) {
      const int count = static_cast<int>(batch.counts[sequence]);
      const int start = static_cast<int>(batch.starts[sequence]);
      trace(batch.parents + first, count);
      for (int row = 0; row < count; row += most) {
        const int rows = std::min(most, count - row);
        all.push_back({first + row, rows, slots, start, start + row + rows, masks.size()});
        add_masks(row, rows, groups, batch.positions + first);
        most_keys = std::max(most_keys, start + row + rows);
      }
      first += count;
      slots += start + count;
    }
  }

  std::vector<RowGroup> all;
  std::vector<uint16_t> masks;
  int most_keys = 0;

 private:
  // Finds, for every row of a tree, itself and its ancestors.
  void trace(const int64_t* parents, int count) {
    words_ = (count + 63) / 64;
    paths_.assign(static_cast<size_t>(count) * words_, 0);
    for (int row = 0; row < count; ++row) {
      uint64_t* path = &paths_[static_cast<size_t>(row) * words_];
      if (parents[row] >= 0) {
        std::memcpy(path, &paths_[parents[row] * words_], words_ * sizeof *path);
      }
      path[row / 64] |= uint64_t{1} << row % 64;
    }
  }

  void add_masks(int first, int rows, int groups, const int64_t* positions) {
    for (int key = 0; key < first + rows; ++key) {
      uint16_t lanes = 0;
      for (int row = 0; row < rows; ++row) {
        const uint64_t word = paths_[static_cast<size_t>(first + row) * words_ + key / 64];
        const bool recent = positions[key] > positions[first + row] - window_;
        if (recent && word >> key % 64 & 1) lanes |= ((1 << groups) - 1) << row * groups;
      }
      masks.push_back(lanes);
    }
  }

  int window_;
  int words_ = 0;
  std::vector<uint64_t> paths_;
};

// Keys and values of one layer and key-value head.
template <class Cached>
struct HeadCache {
  Cached* keys;
  long stride;  // from slot to slot
  long values;  // from a key to its value

  Cached* key(int64_t slot) const { return keys + slot * stride; }
  Cached* value(int64_t slot) const { return keys + slot * stride + values; }
};

// --- scores: sixteen keys times up to sixteen lanes ------------------------------------------

// The queries of a task, as the product with sixteen keys takes them.
template <class Cached>
struct Queries {
  std::vector<float> columns;  // [head size, lanes]

  void resize(int size) { columns.assign(static_cast<size_t>(size) * kLanes, 0); }
  void set(int lane, const float* query, int size) {
    for (int d = 0; d < size; ++d) columns[d * kLanes + lane] = query[d];
  }
  // `keys` are sixteen rows, `stride` apart; `scores` is [16, lanes].
  void score(const Cached* keys, long stride, int size, float* scores) const {
    for (int key = 0; key < 16; ++key) {
      Floats total{};
      for (int d = 0; d < size; ++d) {
        total += load(&columns[d * kLanes]) * to_float(keys[key * stride + d]);
      }
      store(scores + key * kLanes, total);
    }
  }
};

#ifdef STRIDE_AMX
template <>
struct Queries<Bfloat16> {
  std::vector<Bfloat16> tiles;  // [head size / 32, 16 pairs, lanes, 2]

  void resize(int size) { tiles.assign(static_cast<size_t>(size) * kLanes, Bfloat16{0}); }
  void set(int lane, const float* query, int size) {
    Bfloat16 rounded[kLanes];
    for (int d = 0; d < size; d += kLanes) {
      store(rounded, load(query + d));
      for (int i = 0; i < kLanes; ++i) {
        tiles[((d + i) / 2 * kLanes + lane) * 2 + i % 2] = rounded[i];
      }
    }
  }
  void score(const Bfloat16* keys, long stride, int size, float* scores) const {
    _tile_zero(0);
    for (int d = 0; d < size; d += 32) {
      _tile_loadd(4, keys + d, stride * sizeof(Bfloat16));
      _tile_loadd(6, tiles.data() + static_cast<size_t>(d) * kLanes, 64);
      _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, scores, 64);
  }
};
#endif

// --- one task --------------------------------------------------------------------------------

// What a thread needs to attend.
template <class Cached>
struct Scratch {
  std::vector<float> scores;  // [keys, lanes]
  std::vector<Cached> block;  // sixteen keys that do not lie together
  std::vector<float> query;
  Queries<Cached> queries;
};

template <class Cached>
const Cached* sixteen_keys(const HeadCache<Cached>& cache, const RowGroup& group, int first,
                           int size, std::vector<Cached>& block, long* stride) {
  const int64_t* slots = group.slots + first;
  *stride = cache.stride;
  if (first + 16 <= group.keys && slots[15] == slots[0] + 15) {
    bool together = true;
    for (int i = 1; i < 15; ++i) together = together && slots[i] == slots[0] + i;
    if (together) return cache.key(slots[0]);
  }
  *stride = size;
  for (int i = 0; i < 16; ++i) {
    const int64_t slot = slots[std::min(i, group.keys - 1 - first)];
    std::memcpy(&block[static_cast<size_t>(i) * size], cache.key(slot), size * sizeof(Cached));
  }
  return block.data();
}

inline Floats hidden_unless(Floats scores, uint32_t lanes) {
  const Words bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  return (bit & lanes) != 0 ? scores : all(-INFINITY);
}

// Scores of all keys, and their maximum a lane. `oldest` is each lane's first cached key in its
// window.
template <class Cached>
Floats score_keys(const HeadCache<Cached>& cache, const RowGroup& group, const uint16_t* masks,
                  Ints oldest, int size, float scaling, Scratch<Cached>& scratch) {
  Floats maximum = all(-INFINITY);
  for (int first = 0; first < group.keys; first += 16) {
    float* scores = &scratch.scores[static_cast<size_t>(first) * kLanes];
    long stride;
    const Cached* keys = sixteen_keys(cache, group, first, size, scratch.block, &stride);
    scratch.queries.score(keys, stride, size, scores);
    for (int key = first; key < std::min(first + 16, group.keys); ++key) {
      Floats score = load(scores + (key - first) * kLanes) * scaling;
      if (key >= group.start) score = hidden_unless(score, masks[key - group.start]);
      score = oldest > key ? all(-INFINITY) : score;
      store(scores + (key - first) * kLanes, score);
      maximum = larger(score, maximum);
    }
  }
  return maximum;
}

// Turns scores into weights, in place; returns their sum a lane.
inline Floats weigh(float* scores, int keys, Floats maximum) {
  Floats total{};
  for (int key = 0; key < keys; ++key) {
    const Floats weight = exponential(load(scores + key * kLanes) - maximum);
    store(scores + key * kLanes, weight);
    total += weight;
  }
  return total;
}

// Adds up 32 numbers of every value for four lanes: `sums` is [4, 32].
template <class Cached>
void add_values(const HeadCache<Cached>& cache, const RowGroup& group, int offset,
                const float* weights, Floats (&sums)[4][2]) {
  for (auto& each : sums) each[0] = each[1] = Floats{};
  for (int key = 0; key < group.keys; ++key, weights += kLanes) {
    const Cached* value = cache.value(group.slots[key]) + offset;
    const Floats low = load(value), high = load(value + kLanes);
    for (int lane = 0; lane < 4; ++lane) {
      sums[lane][0] += low * weights[lane];
      sums[lane][1] += high * weights[lane];
    }
  }
}

// Attends for one task, whose queries are set; `out(lane)` is where a lane's answer goes.
template <class Cached, class Out>
void attend(const HeadCache<Cached>& cache, const RowGroup& group, const uint16_t* masks,
            Ints oldest, const HeadShape& shape, float scaling, Scratch<Cached>& scratch,
            const Out& out) {
  const Floats maximum =
      score_keys(cache, group, masks, oldest, shape.size, scaling, scratch);
  const Floats share = 1.0f / weigh(scratch.scores.data(), group.keys, maximum);
  const int lanes = group.rows * shape.groups();
  for (int lane = 0; lane < lanes; lane += 4) {
    for (int offset = 0; offset < shape.size; offset += 32) {
      Floats sums[4][2];
      add_values(cache, group, offset, &scratch.scores[lane], sums);
      for (int i = 0; i < std::min(4, lanes - lane); ++i) {
        store(out(lane + i) + offset, sums[i][0] * share[lane + i]);
        store(out(lane + i) + offset + kLanes, sums[i][1] * share[lane + i]);
      }
    }
  }
}

}  // namespace stride
