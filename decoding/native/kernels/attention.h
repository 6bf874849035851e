// Attention of the rows of a forward over a paged cache, without copying a prefix.
//
// A task is a few rows of one sequence and some key-value heads. The rows' query heads are its
// *lanes*, at most sixteen, which numbers are computed for side by side. Every lane's sums run over
// its keys one by one in the order of their slots, and a key that a lane may not see adds exactly
// zero: neither other branches of a draft tree nor other rows change its bits.
#pragma once

#include <array>
#include <vector>

#include "products.h"

namespace stride {

// What a forward is to compute; filled in by decoding/native/computation.py.
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

// Some rows of one sequence, and the keys they may see.
struct RowGroup {
  int first_row, rows;
  const int64_t* slots;
  int start;     // keys before this one are seen by all
  int keys;      // keys up to the last row's own
  size_t masks;  // where the lanes that see key `start`, `start + 1`, ... are in Groups::masks
};

// The rows of a batch, cut for attention: the same in every layer.
class RowGroups {
 public:
  RowGroups() = default;
  // `groups` is how many query heads share a key-value head.
  RowGroups(const Batch& batch, int groups) {
    const int most = kLanes / groups;
    const int64_t* slots = batch.slots;
    for (int sequence = 0, first = 0; sequence < batch.sequences; ++sequence) {
      const int count = static_cast<int>(batch.counts[sequence]);
      const int start = static_cast<int>(batch.starts[sequence]);
      trace(batch.parents + first, count);
      for (int row = 0; row < count; row += most) {
        const int rows = std::min(most, count - row);
        all.push_back({first + row, rows, slots, start, start + row + rows, masks.size()});
        add_masks(row, rows, groups);
        most_keys = std::max(most_keys, start + row + rows);
        most_rows = std::max(most_rows, rows);
      }
      first += count;
      slots += start + count;
    }
  }

  std::vector<RowGroup> all;
  std::vector<uint16_t> masks;
  int most_keys = 0, most_rows = 0;

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

  void add_masks(int first, int rows, int groups) {
    for (int key = 0; key < first + rows; ++key) {
      uint16_t lanes = 0;
      for (int row = 0; row < rows; ++row) {
        const uint64_t word = paths_[static_cast<size_t>(first + row) * words_ + key / 64];
        if (word >> key % 64 & 1) lanes |= ((1 << groups) - 1) << row * groups;
      }
      masks.push_back(lanes);
    }
  }

  int words_ = 0;
  std::vector<uint64_t> paths_;
};

// The cached keys and values of one layer.
template <class Cached>
struct LayerCache {
  Cached* keys;
  long slot;    // from a slot to the next
  long values;  // from a key to its value

  Cached* key(int64_t at) const { return keys + at * slot; }
  Cached* value(int64_t at) const { return keys + at * slot + values; }
};

// Some rows of one sequence and some key-value heads. Lanes go by head, then row, then query head.
template <class Cached>
struct Task {
  const RowGroup& group;
  const uint16_t* masks;
  LayerCache<Cached> cache;
  int first_head, heads, groups, size;  // key-value heads; query heads in each; head size

  int lanes_per_head() const { return group.rows * groups; }
  int lanes() const { return heads * lanes_per_head(); }
  int row(int lane) const { return group.first_row + lane % lanes_per_head() / groups; }
  int query_head(int lane) const {
    return (first_head + lane / lanes_per_head()) * groups + lane % groups;
  }
  // The lanes that see key `start + index`.
  uint32_t mask(int index) const {
    uint32_t lanes = 0;
    for (int head = 0; head < heads; ++head) lanes |= masks[index] << head * lanes_per_head();
    return lanes;
  }
};

// --- scores: sixteen keys times sixteen lanes ------------------------------------------------

constexpr int kKeysInRegisters = 8;  // scored at once where there are no tiles

// Where a task's heads of the sixteen keys after these lie, each followed by its value: to be
// fetched while these are scored.
template <class Cached>
using Following = std::array<const Cached*, 32>;

// The queries of a task, as the product with sixteen keys takes them. A head's lanes are zero in
// all other heads' queries.
template <class Cached>
class Queries {
 public:
  static constexpr bool kFetches = false;  // what follows

  void clear(int heads, int size) { columns_.assign(heads * size * kLanes, 0.0f); }
  void set(int lane, int head, const float* query, int size) {
    for (int d = 0; d < size; ++d) columns_[(head * size + d) * kLanes + lane] = query[d];
  }
  // `keys` are sixteen rows of `numbers`, `stride` apart; `scores` is [16, lanes].
  void score(const Cached* keys, long stride, int numbers, float* scores,
             const Following<Cached>& /*following*/) const {
    for (int key = 0; key < 16; key += kKeysInRegisters) {
      Floats totals[kKeysInRegisters] = {};
      for (int i = 0; i < numbers; ++i) {
        const Floats column = load(&columns_[i * kLanes]);
        for (int k = 0; k < kKeysInRegisters; ++k) {
          totals[k] += column * to_float(keys[(key + k) * stride + i]);
        }
      }
      std::memcpy(scores + key * kLanes, totals, sizeof totals);
    }
  }

 private:
  std::vector<float> columns_;  // [heads, head size, lanes]
};

#if defined(STRIDE_AMX)
constexpr bool kFetchesPairs = false;

inline void score_pairs(const Bfloat16* pairs, const Bfloat16* keys, long stride, int numbers,
                        float* scores, const Following<Bfloat16>& /*following*/) {
  _tile_zero(0);
  for (int i = 0; i < numbers; i += 32) {
    _tile_loadd(4, keys + i, stride * sizeof(Bfloat16));
    _tile_loadd(6, pairs + i * kLanes, 64);
    _tile_dpbf16ps(0, 4, 6);
  }
  _tile_stored(0, scores, 64);
}
#elif defined(__AVX512BF16__)
constexpr bool kFetchesPairs = true;

// Asks for one of the lines that follow beside every product: there are as many.
inline void score_pairs(const Bfloat16* pairs, const Bfloat16* keys, long stride, int numbers,
                        float* scores, const Following<Bfloat16>& following) {
  const Bfloat16* const* next = following.data();
  for (int first = 0; first < 16; first += kKeysInRegisters) {
    __m512 totals[kKeysInRegisters] = {};
    for (int i = 0; i < numbers; ++next) {
      for (int line = 0; line < numbers; line += 32, i += 2) {
        __builtin_prefetch(*next + line);
        const auto column =
            (__m512bh)load(reinterpret_cast<const float*>(pairs + i * kLanes));
        for (int k = 0; k < kKeysInRegisters; ++k) {
          float pair;
          std::memcpy(&pair, keys + (first + k) * stride + i, sizeof pair);
          totals[k] = _mm512_dpbf16_ps(totals[k], column, (__m512bh)_mm512_set1_ps(pair));
        }
      }
    }
    std::memcpy(scores + first * kLanes, totals, sizeof totals);
  }
}
#endif

#if defined(STRIDE_AMX) || defined(__AVX512BF16__)
// Two numbers of a lane side by side, as both instructions take them.
template <>
class Queries<Bfloat16> {
 public:
  static constexpr bool kFetches = kFetchesPairs;

  void clear(int heads, int size) { pairs_.assign(heads * size * kLanes, Bfloat16{0}); }
  void set(int lane, int head, const float* query, int size) {
    Bfloat16 rounded[kLanes];
    for (int d = 0; d < size; d += kLanes) {
      store(rounded, load(query + d));
      Bfloat16* to = &pairs_[((head * size + d) * kLanes) + lane * 2];
      for (int i = 0; i < kLanes; i += 2) std::memcpy(to + i * kLanes, rounded + i, 4);
    }
  }
  void score(const Bfloat16* keys, long stride, int numbers, float* scores,
             const Following<Bfloat16>& following) const {
    score_pairs(pairs_.data(), keys, stride, numbers, scores, following);
  }

 private:
  std::vector<Bfloat16> pairs_;  // [heads, head size / 32, 16 pairs, lanes, 2]
};
#endif

// --- one task --------------------------------------------------------------------------------

// What a thread needs to attend.
template <class Cached>
struct Scratch {
  std::vector<float> scores;  // [keys, lanes]
  std::vector<Cached> block;  // sixteen keys that do not lie together
  std::vector<float> head;
  Queries<Cached> queries;
};

inline bool lie_together(const int64_t* slots) {
  bool together = true;
  for (int i = 1; i < 16; ++i) together = together && slots[i] == slots[0] + i;
  return together;
}

// The task's heads of sixteen keys, `*stride` apart; copied to `block` if they do not lie together.
template <class Cached>
const Cached* sixteen_keys(const Task<Cached>& task, int first, std::vector<Cached>& block,
                           long* stride) {
  const int64_t* slots = task.group.slots + first;
  const int left = task.group.keys - first, offset = task.first_head * task.size;
  *stride = task.cache.slot;
  if (left >= 16 && lie_together(slots)) return task.cache.key(slots[0]) + offset;
  *stride = task.heads * task.size;
  for (int i = 0; i < 16; ++i) {
    std::memcpy(&block[i * *stride], task.cache.key(slots[std::min(i, left - 1)]) + offset,
                *stride * sizeof(Cached));
  }
  return block.data();
}

// Where sixteen keys and values lie; past the last one, where that lies.
template <class Cached>
Following<Cached> sixteen_from(const Task<Cached>& task, int first) {
  Following<Cached> found;
  const int offset = task.first_head * task.size;
  for (int i = 0; i < 16; ++i) {
    const int64_t slot = task.group.slots[std::min(first + i, task.group.keys - 1)];
    found[2 * i] = task.cache.key(slot) + offset;
    found[2 * i + 1] = task.cache.value(slot) + offset;
  }
  return found;
}

// Reads a word of every cache line of sixteen keys and their values, in the order of addresses. It
// is what makes the processor stream them: the products below jump from key to key, and prefetch
// instructions are limited to the few lines that may be on their way to the first cache.
template <class Cached>
void fetch(const Task<Cached>& task, int first) {
  const long bytes = task.heads * task.size * static_cast<long>(sizeof(Cached));
  const auto read = [bytes](const Cached* from) {
    const auto* line = reinterpret_cast<const volatile char*>(from);
    for (long i = 0; i < bytes; i += 64) (void)line[i];
  };
  for (int key = first; key < std::min(first + 16, task.group.keys); ++key) {
    const int64_t slot = task.group.slots[key];
    read(task.cache.key(slot) + task.first_head * task.size);
    read(task.cache.value(slot) + task.first_head * task.size);
  }
}

// Hides, of sixteen keys, those that a lane may not see.
template <class Cached>
void hide(const Task<Cached>& task, int first, float* scores) {
  const int last = std::min(first + 16, task.group.keys);
  for (int key = std::max(first, task.group.start); key < last; ++key) {
    float* score = scores + (key - first) * kLanes;
    const uint32_t lanes = task.mask(key - task.group.start);
    store(score, ((lanes >> kLane) & 1) != 0 ? load(score) : all(-INFINITY));
  }
}

// Scores of all keys, and their maximum a lane.
template <class Cached>
Floats score_keys(const Task<Cached>& task, Scratch<Cached>& scratch) {
  Floats maximum = all(-INFINITY);
  for (int first = 0; first < task.group.keys; first += 16) {
    float* scores = &scratch.scores[static_cast<size_t>(first) * kLanes];
    if (first == 0 || !Queries<Cached>::kFetches) fetch(task, first);
    long stride;
    const Cached* keys = sixteen_keys(task, first, scratch.block, &stride);
    scratch.queries.score(keys, stride, task.heads * task.size, scores,
                          sixteen_from(task, first + 16));
    if (first + 16 > task.group.start) hide(task, first, scores);
    for (int key = 0; key < std::min(16, task.group.keys - first); ++key) {
      maximum = larger(load(scores + key * kLanes), maximum);
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

// Adds up some vectors of every value, from `offset` on, for some lanes: as many sums as there are
// registers for. `sums` is [Lanes, Vectors].
template <int Lanes, int Vectors, class Cached>
void add_values(const Task<Cached>& task, int offset, const float* weights, Floats* sums) {
  Floats totals[Lanes][Vectors] = {};
  for (int key = 0; key < task.group.keys; ++key, weights += kLanes) {
    const Cached* value = task.cache.value(task.group.slots[key]) + offset;
    Floats parts[Vectors];
    for (int v = 0; v < Vectors; ++v) parts[v] = load(value + v * kLanes);
    for (int lane = 0; lane < Lanes; ++lane) {
      for (int v = 0; v < Vectors; ++v) totals[lane][v] += parts[v] * weights[lane];
    }
  }
  std::memcpy(sums, totals, sizeof totals);
}

template <class Cached>
using AddValues = void (*)(const Task<Cached>&, int, const float*, Floats*);

// Wide for a few lanes, as in decoding, narrow for many, as in reading a prompt.
constexpr int kFewLanes = 4, kManyLanes = 8;

template <class Cached>
AddValues<Cached> adder(int lanes, int vectors) {
  static constexpr AddValues<Cached> kWide[] = {add_values<1, 4, Cached>, add_values<2, 4, Cached>,
                                                add_values<3, 4, Cached>, add_values<4, 4, Cached>};
  static constexpr AddValues<Cached> kNarrow[] = {
      add_values<1, 2, Cached>, add_values<2, 2, Cached>, add_values<3, 2, Cached>,
      add_values<4, 2, Cached>, add_values<5, 2, Cached>, add_values<6, 2, Cached>,
      add_values<7, 2, Cached>, add_values<8, 2, Cached>};
  return vectors == 4 ? kWide[lanes - 1] : kNarrow[lanes - 1];
}

// Attends for a task whose queries are set; `out(lane)` is where a lane's answer goes.
template <class Cached, class Out>
void attend(const Task<Cached>& task, Scratch<Cached>& scratch, const Out& out) {
  const Floats maximum = score_keys(task, scratch);
  const Floats share = 1.0f / weigh(scratch.scores.data(), task.group.keys, maximum);
  const int per_head = task.lanes_per_head();
  const int vectors = per_head <= kFewLanes && task.size % 64 == 0 ? 4 : 2;
  for (int head = 0; head < task.heads; ++head) {
    for (int first = 0; first < per_head; first += kManyLanes) {
      const int lane = head * per_head + first, count = std::min(kManyLanes, per_head - first);
      for (int d = 0; d < task.size; d += vectors * kLanes) {
        Floats sums[16];
        const int offset = (task.first_head + head) * task.size + d;
        adder<Cached>(count, vectors)(task, offset, &scratch.scores[lane], sums);
        for (int i = 0; i < count * vectors; ++i) {
          const int to = lane + i / vectors;
          store(out(to) + d + i % vectors * kLanes, sums[i] * share[to]);
        }
      }
    }
  }
}

}  // namespace stride
