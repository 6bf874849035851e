// A decoder of the Llama family: norm, attention, norm, gated feed-forward, layer by layer, in one
// call. The caller's threads stay together from the embedding to the logits.
#pragma once

#include <omp.h>

#include "attention.h"

namespace stride {

// What a model's configuration says; filled in by decoding/native/decoder.py.
struct Shape {
  int32_t hidden, intermediate, vocabulary, layers, heads, kv_heads, head_size, rotary;
  int32_t threads;
  float epsilon, scaling;

  int groups() const { return heads / kv_heads; }
};

// One layer's parameters as the model has them; null where it has none.
struct LayerSource {
  const void *norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *o_bias;
  const void *mlp_norm, *gate, *up, *down, *gate_bias, *up_bias, *down_bias;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void add_layer(const LayerSource& source) = 0;
  virtual void set_ends(const void* embedding, const void* norm, const void* head,
                        const float* cosines, const float* sines) = 0;
  virtual void forward(const Batch& batch, float* logits) = 0;
  // Seconds spent in each phase of all forwards so far.
  virtual const double* seconds() const = 0;
};

template <class Source>
std::vector<Slice<Source>> slices(const void* weights, const void* biases, int outputs,
                                  int inputs) {
  std::vector<Slice<Source>> all;
  for (int first = 0; first < outputs; first += kLanes) {
    const auto* bias = static_cast<const Source*>(biases);
    all.push_back({static_cast<const Source*>(weights) + static_cast<size_t>(first) * inputs,
                   bias ? bias + first : nullptr, std::min(kLanes, outputs - first)});
  }
  return all;
}

template <class Source>
std::vector<float> floats(const void* from, int count) {
  std::vector<float> values;
  for (int i = 0; from && i < count; ++i) {
    values.push_back(to_float(static_cast<const Source*>(from)[i]));
  }
  return values;
}

// Divides by the root of the mean square (Zhang and Sennrich, 2019).
inline void normalise(const float* row, const std::vector<float>& weight, float epsilon,
                      float* out) {
  const int count = static_cast<int>(weight.size());
  Floats squares{};
  for (int i = 0; i < count; i += kLanes) squares += load(row + i) * load(row + i);
  const float factor = 1.0f / std::sqrt(sum(squares) / count + epsilon);
  for (int i = 0; i < count; i += kLanes) {
    store(out + i, load(row + i) * factor * load(&weight[i]));
  }
}

// Rotary position embedding of one head, halves against each other (Su et al., 2021).
inline void rotate(float* head, int rotary, const float* cosines, const float* sines) {
  const int half = rotary / 2;
  for (int i = 0; i < half; ++i) {
    const float a = head[i], b = head[half + i];
    head[i] = a * cosines[i] - b * sines[i];
    head[half + i] = b * cosines[i] + a * sines[i];
  }
}

// `Source` is the number format of the parameters as they come.
template <class Format, class Source>
class FormattedDecoder : public Decoder {
  using Cached = typename Format::Cached;

  struct Layer {
    std::vector<float> norm, mlp_norm, q_norm, k_norm;
    Weights<Format> qkv, o, gate_up, down;
  };

 public:
  explicit FormattedDecoder(const Shape& shape)
      : shape_(shape), arena_(arena_bytes()), scratch_(shape.threads) {
    for (auto& each : scratch_) {
      each.block.resize(static_cast<size_t>(kv_size()) * 16);
      each.head.resize(shape.head_size);
    }
  }

  void add_layer(const LayerSource& from) override {
    const int hidden = shape_.hidden, inner = shape_.intermediate;
    auto qkv = slices<Source>(from.q, from.q_bias, q_size(), hidden);
    for (const auto& each : slices<Source>(from.k, from.k_bias, kv_size(), hidden)) {
      qkv.push_back(each);
    }
    for (const auto& each : slices<Source>(from.v, from.v_bias, kv_size(), hidden)) {
      qkv.push_back(each);
    }
    // Alternating, so that the thread that has a gate has what it lets through.
    const auto gate = slices<Source>(from.gate, from.gate_bias, inner, hidden);
    const auto up = slices<Source>(from.up, from.up_bias, inner, hidden);
    std::vector<Slice<Source>> gate_up;
    for (size_t i = 0; i < gate.size(); ++i) {
      gate_up.push_back(gate[i]);
      gate_up.push_back(up[i]);
    }
    layers_.push_back({floats<Source>(from.norm, hidden), floats<Source>(from.mlp_norm, hidden),
                       floats<Source>(from.q_norm, shape_.head_size),
                       floats<Source>(from.k_norm, shape_.head_size), packed(hidden, qkv),
                       packed(q_size(), slices<Source>(from.o, from.o_bias, hidden, q_size())),
                       packed(hidden, gate_up),
                       packed(inner, slices<Source>(from.down, from.down_bias, hidden, inner))});
  }

  void set_ends(const void* embedding, const void* norm, const void* head, const float* cosines,
                const float* sines) override {
    embedding_ = static_cast<const Source*>(embedding);
    norm_ = floats<Source>(norm, shape_.hidden);
    head_ = packed(shape_.hidden,
                   slices<Source>(head, nullptr, shape_.vocabulary, shape_.hidden));
    cosines_ = cosines;
    sines_ = sines;
  }

  void forward(const Batch& batch, float* logits) override {
    prepare(batch);
    Barrier barrier;
    stopwatch_.start();
#pragma omp parallel num_threads(shape_.threads)
    {
      const Member member{omp_get_thread_num(), omp_get_num_threads(), &barrier, &stopwatch_};
      embed(member, batch);
      for (size_t index = 0; index < layers_.size(); ++index) {
        attend_layer(member, batch, layers_[index], static_cast<int>(index));
        feed_forward(member, batch, layers_[index]);
      }
      predict(member, batch, logits);
      release_tiles();
    }
  }

  const double* seconds() const override { return stopwatch_.seconds; }

 private:
  int q_size() const { return shape_.heads * shape_.head_size; }
  int kv_size() const { return shape_.kv_heads * shape_.head_size; }
  int qkv_size() const { return q_size() + 2 * kv_size(); }

  size_t arena_bytes() const {
    const auto bytes = packed_bytes<Format>;
    const size_t layer = bytes(shape_.hidden, qkv_size()) + bytes(q_size(), shape_.hidden) +
                         bytes(shape_.hidden, 2 * shape_.intermediate) +
                         bytes(shape_.intermediate, shape_.hidden);
    return layer * shape_.layers + bytes(shape_.hidden, shape_.vocabulary);
  }

  Weights<Format> packed(int inputs, const std::vector<Slice<Source>>& from) {
    return pack<Format>(arena_, inputs, from, shape_.threads);
  }

  // Makes room, and plans what all layers share.
  void prepare(const Batch& batch) {
    const size_t rows = batch.rows;
    const auto grow = [](std::vector<float>& buffer, size_t size) {
      if (buffer.size() < size) buffer.resize(size);
    };
    const size_t widest =
        std::max({shape_.hidden, q_size(), shape_.intermediate});
    grow(states_, rows * shape_.hidden);
    grow(projected_, rows * qkv_stride());
    grow(wide_, rows * widest);
    encoded_.resize(batch.rows, static_cast<int>(widest));
    groups_ = RowGroups(batch, shape_.groups());
    slot_of_row_.clear();
    const int64_t* slots = batch.slots;
    for (int sequence = 0; sequence < batch.sequences; ++sequence) {
      slots += batch.starts[sequence];
      slot_of_row_.insert(slot_of_row_.end(), slots, slots + batch.counts[sequence]);
      slots += batch.counts[sequence];
    }
    const size_t keys = (groups_.most_keys + 15) / 16 * 16;
    for (auto& each : scratch_) grow(each.scores, keys * kLanes);
    next_task_.store(0);
  }

  int qkv_stride() const { return (qkv_size() + kColumns - 1) / kColumns * kColumns; }
  float* state(int row) { return &states_[static_cast<size_t>(row) * shape_.hidden]; }

  // Writes rows down for the next product: `make(row, to)` computes one of `inputs` floats.
  template <class Make>
  void encode(const Member& member, int rows, int inputs, const Make& make) {
    const Range share = member.share(rows);
    for (int row = share.begin; row < share.end; ++row) {
      float* to = &wide_[static_cast<size_t>(row) * inputs];
      make(row, to);
      auto* encoded = &encoded_.values[static_cast<size_t>(row) * inputs];
      encoded_.scales[row] = Format::encode(to, inputs, encoded);
      if constexpr (requires { Format::kShift; }) Format::shift(encoded, inputs);
    }
    member.finish(kEncode);
  }

  void encode_normed(const Member& member, int rows, const std::vector<float>& norm) {
    encode(member, rows, shape_.hidden,
           [&](int row, float* to) { normalise(state(row), norm, shape_.epsilon, to); });
  }

  void embed(const Member& member, const Batch& batch) {
    const Range share = member.share(batch.rows);
    for (int row = share.begin; row < share.end; ++row) {
      const Source* from = embedding_ + batch.tokens[row] * shape_.hidden;
      for (int i = 0; i < shape_.hidden; i += kLanes) store(state(row) + i, load(from + i));
    }
  }

  void attend_layer(const Member& member, const Batch& batch, const Layer& layer, int index) {
    encode_normed(member, batch.rows, layer.norm);
    const size_t stride = qkv_stride();
    product(member, encoded_, batch.rows, layer.qkv,
            [&](int row, int column, Floats low, Floats high) {
              store(&projected_[row * stride + column], low);
              store(&projected_[row * stride + column + kLanes], high);
            });
    member.finish(kQkv);
    write_cache(member, batch, layer, index);
    if (member.index == 0) next_task_.store(0);
    member.finish(kCache);
    attend_tasks(member, batch, layer, index);
    member.finish(kAttention);
    encode(member, batch.rows, q_size(), [](int, float*) {});
    add_product(member, batch.rows, layer.o, kOutput);
  }

  void feed_forward(const Member& member, const Batch& batch, const Layer& layer) {
    encode_normed(member, batch.rows, layer.mlp_norm);
    const size_t stride = shape_.intermediate;
    product(member, encoded_, batch.rows, layer.gate_up,
            [&](int row, int column, Floats gate, Floats up) {
              store(&wide_[row * stride + column / 2], silu(gate) * up);
            });
    member.finish(kGateUp);
    encode(member, batch.rows, shape_.intermediate, [](int, float*) {});
    add_product(member, batch.rows, layer.down, kDown);
  }

  void add_product(const Member& member, int rows, const Weights<Format>& weights, Phase phase) {
    product(member, encoded_, rows, weights, [&](int row, int column, Floats low, Floats high) {
      float* to = state(row) + column;
      store(to, load(to) + low);
      if (column + kLanes < shape_.hidden) store(to + kLanes, load(to + kLanes) + high);
    });
    member.finish(phase);
  }

  void predict(const Member& member, const Batch& batch, float* logits) {
    if (batch.wanted == 0) return;
    encode(member, batch.wanted, shape_.hidden, [&](int index, float* to) {
      normalise(state(static_cast<int>(batch.outputs[index])), norm_, shape_.epsilon, to);
    });
    const size_t stride = shape_.vocabulary;
    product(member, encoded_, batch.wanted, head_,
            [&](int row, int column, Floats low, Floats high) {
              float* to = logits + row * stride + column;
              if (column + kColumns <= shape_.vocabulary) {
                store(to, low);
                store(to + kLanes, high);
                return;
              }
              float both[kColumns];
              store(both, low);
              store(both + kLanes, high);
              std::memcpy(to, both, (shape_.vocabulary - column) * sizeof(float));
            });
    member.finish(kHead);
  }

  // --- attention ---

  LayerCache<Cached> layer_cache(const Batch& batch, int layer) const {
    const long stride = 2 * kv_size();
    auto* cache = static_cast<Cached*>(batch.cache) + layer * batch.cache_slots * stride;
    return {cache, stride, kv_size()};
  }

  // One projected head of a row, normalised if the layer does that, and rotated to its position.
  void rotated(const Batch& batch, int row, int offset, const std::vector<float>& norm,
               float* to) const {
    const float* from = &projected_[static_cast<size_t>(row) * qkv_stride() + offset];
    if (norm.empty()) {
      std::memcpy(to, from, shape_.head_size * sizeof *to);
    } else {
      normalise(from, norm, shape_.epsilon, to);
    }
    const size_t at = batch.positions[row] * (shape_.rotary / 2);
    rotate(to, shape_.rotary, cosines_ + at, sines_ + at);
  }

  void write_cache(const Member& member, const Batch& batch, const Layer& layer, int index) {
    const auto cache = layer_cache(batch, index);
    std::vector<float>& key = scratch_[member.index].head;
    const Range share = member.share(batch.rows * shape_.kv_heads);
    for (int item = share.begin; item < share.end; ++item) {
      const int row = item / shape_.kv_heads, head = item % shape_.kv_heads * shape_.head_size;
      const int64_t slot = slot_of_row_[row];
      rotated(batch, row, q_size() + head, layer.k_norm, key.data());
      const float* value = &projected_[static_cast<size_t>(row) * qkv_stride() + q_size() +
                                       kv_size() + head];
      for (int i = 0; i < shape_.head_size; i += kLanes) {
        store(cache.key(slot) + head + i, load(&key[i]));
        store(cache.value(slot) + head + i, load(value + i));
      }
    }
  }

  // As many heads as there are lanes for, but something for every thread.
  int heads_per_task() const {
    const int fitting = kLanes / (groups_.most_rows * shape_.groups());
    const int fair = static_cast<int>(groups_.all.size()) * shape_.kv_heads / shape_.threads;
    return std::clamp(fair, 1, std::min(fitting, shape_.kv_heads));
  }

  // Tasks differ in length, so a thread takes the next one when it is free.
  void attend_tasks(const Member& member, const Batch& batch, const Layer& layer, int index) {
    const int heads = heads_per_task();
    const int parts = (shape_.kv_heads + heads - 1) / heads;
    const int tasks = static_cast<int>(groups_.all.size()) * parts;
    shape_tiles(16);
    for (int next; (next = next_task_.fetch_add(1)) < tasks;) {
      const RowGroup& group = groups_.all[next / parts];
      const int first = next % parts * heads;
      attend_task(member, batch, layer,
                  {group, &groups_.masks[group.masks], layer_cache(batch, index), first,
                   std::min(heads, shape_.kv_heads - first), shape_.groups(), shape_.head_size});
    }
  }

  void attend_task(const Member& member, const Batch& batch, const Layer& layer,
                   const Task<Cached>& task) {
    Scratch<Cached>& scratch = scratch_[member.index];
    scratch.queries.clear(task.heads, task.size);
    for (int lane = 0; lane < task.lanes(); ++lane) {
      const int row = task.row(lane);
      rotated(batch, row, task.query_head(lane) * task.size, layer.q_norm, scratch.head.data());
      for (float& each : scratch.head) each *= shape_.scaling;
      scratch.queries.set(lane, lane / task.lanes_per_head(), scratch.head.data(), task.size);
    }
    attend(task, scratch, [&](int lane) {
      return &wide_[static_cast<size_t>(task.row(lane)) * q_size() +
                    task.query_head(lane) * task.size];
    });
  }

  Shape shape_;
  Arena arena_;
  std::vector<Layer> layers_;
  Weights<Format> head_{};
  std::vector<float> norm_;
  const Source* embedding_ = nullptr;
  const float *cosines_ = nullptr, *sines_ = nullptr;

  std::vector<float> states_, projected_, wide_;
  Encoded<Format> encoded_;
  std::vector<int64_t> slot_of_row_;
  RowGroups groups_;
  std::vector<Scratch<Cached>> scratch_;
  std::atomic<int> next_task_{0};
  Stopwatch stopwatch_;
};

}  // namespace stride
