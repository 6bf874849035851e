// Matrix products of encoded rows with packed weights.
#pragma once

#include <sys/mman.h>

#include <new>
#include <vector>

#include "formats.h"
#include "team.h"

namespace stride {

// Memory for all weights of a model, in huge pages where the system has them: a step reads all of
// it once, and every page is looked up.
class Arena {
 public:
  explicit Arena(size_t bytes) : size_(bytes + kHugePage) {
    void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    next_ = memory_ + (kHugePage - reinterpret_cast<uintptr_t>(memory_) % kHugePage) % kHugePage;
    madvise(next_, bytes, MADV_HUGEPAGE);
  }
  Arena(const Arena&) = delete;
  ~Arena() { munmap(memory_, size_); }

  template <class T>
  T* take(size_t count) {
    auto* taken = reinterpret_cast<T*>(next_);
    next_ += (count * sizeof(T) + 63) / 64 * 64;
    if (next_ > memory_ + size_) throw std::bad_alloc();
    return taken;
  }

 private:
  static constexpr size_t kHugePage = 2 << 20;
  size_t size_;
  std::byte* memory_;
  std::byte* next_;
};

// Sixteen or fewer rows of a weight matrix as a model has it, [outputs, inputs], and their biases
// (or null): sixteen columns of the product.
template <class Source>
struct Slice {
  const Source* weights;
  const Source* biases;
  int outputs;
};

template <class Format>
struct Weights {
  int inputs, panels;
  std::byte* tiles;
  float* scales;                 // one a column
  float* biases;                 // one a column, or null
  typename Format::Sum* starts;  // what a column's sums start from

  const std::byte* panel(int index) const {
    return tiles + static_cast<size_t>(index) * steps() * 2 * kTileBytes;
  }
  int steps() const { return inputs / Format::kInputsPerStep; }
};

template <class Format>
size_t packed_bytes(int inputs, int outputs) {
  const size_t panels = (outputs + kColumns - 1) / kColumns;
  return panels * kColumns * (static_cast<size_t>(inputs) * sizeof(typename Format::Input) + 12) +
         4 * 64;
}

// Writes one column of a panel.
template <class Format>
void pack_column(const Weights<Format>& packed, int column, float* row,
                 typename Format::Input* encoded) {
  using Input = typename Format::Input;
  constexpr int kPerWord = 4 / sizeof(Input);
  packed.scales[column] = Format::encode(row, packed.inputs, encoded);
  auto* panel = const_cast<std::byte*>(packed.panel(column / kColumns));
  auto* tile = panel + column % kColumns / kLanes * kOtherTile<Format> + column % kLanes * 4;
  typename Format::Sum start = 0;
  for (int i = 0; i < packed.inputs; i += kPerWord) {
    const int step = i / Format::kInputsPerStep;
    const int word = i % Format::kInputsPerStep / kPerWord;
    std::memcpy(tile + step * 2 * kTileBytes + word * kLineBytes<Format>, encoded + i, 4);
    if constexpr (requires { Format::kShift; }) {
      for (int j = 0; j < kPerWord; ++j) start -= Format::kShift * encoded[i + j];
    }
  }
  packed.starts[column] = start;
}

template <class Format, class Source>
Weights<Format> pack(Arena& arena, int inputs, const std::vector<Slice<Source>>& slices,
                     int threads) {
  using Input = typename Format::Input;
  const int panels = (static_cast<int>(slices.size()) + 1) / 2;
  const size_t columns = static_cast<size_t>(panels) * kColumns;
  bool biased = false;
  for (const auto& slice : slices) biased = biased || slice.biases != nullptr;
  Weights<Format> packed{inputs, panels, nullptr, nullptr, nullptr, nullptr};
  packed.tiles = reinterpret_cast<std::byte*>(arena.take<Input>(columns * inputs));
  packed.scales = arena.take<float>(columns);
  packed.biases = biased ? arena.take<float>(columns) : nullptr;
  packed.starts = arena.take<typename Format::Sum>(columns);
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> row(inputs);
    std::vector<Input> encoded(inputs);
#pragma omp for
    for (size_t index = 0; index < slices.size(); ++index) {
      const auto& slice = slices[index];
      for (int output = 0; output < slice.outputs; ++output) {
        const int column = static_cast<int>(index) * kLanes + output;
        const Source* from = slice.weights + static_cast<size_t>(output) * inputs;
        for (int i = 0; i < inputs; ++i) row[i] = to_float(from[i]);
        pack_column(packed, column, row.data(), encoded.data());
        if (slice.biases) packed.biases[column] = to_float(slice.biases[output]);
      }
    }
  }
  return packed;
}

// Rows as a format writes them: `count` of `inputs`, padded to full tiles.
template <class Format>
struct Encoded {
  std::vector<typename Format::Input> values;
  std::vector<float> scales;

  void resize(int rows, int inputs) {
    const size_t padded = (rows + kRows - 1) / kRows * kRows;
    if (values.size() < padded * inputs) values.resize(padded * inputs);
    if (scales.size() < padded) scales.resize(padded);
  }
};

// Multiplies all rows with this thread's share of the columns and hands on every result:
// `finish(row, column, low, high)` gets columns `column` to `column + 31` of a row.
template <class Format, class Finish>
void product(const Member& member, const Encoded<Format>& input, int rows,
             const Weights<Format>& weights, const Finish& finish) {
  alignas(64) typename Format::Sum sums[kRows * kColumns];
  shape_tiles(rows < 16 ? rows : 16);
  const Range share = member.share(weights.panels);
  for (int panel = share.begin; panel < share.end; ++panel) {
    const int column = panel * kColumns;
    const Floats scale[2] = {load(weights.scales + column), load(weights.scales + column + 16)};
    Floats bias[2] = {};
    if (weights.biases) {
      bias[0] = load(weights.biases + column);
      bias[1] = load(weights.biases + column + 16);
    }
    for (int first = 0; first < rows; first += kRows) {
      const int count = rows - first < kRows ? rows - first : kRows;
      multiply<Format>(input.values.data() + static_cast<size_t>(first) * weights.inputs,
                       weights.inputs, count, weights.panel(panel), weights.steps(),
                       weights.starts + column, sums);
      for (int row = 0; row < count; ++row) {
        const auto* pair = reinterpret_cast<const typename Format::Vector*>(sums) + 2 * row;
        const float row_scale = input.scales[first + row];
        const Floats low = __builtin_convertvector(pair[0], Floats) * (scale[0] * row_scale);
        const Floats high = __builtin_convertvector(pair[1], Floats) * (scale[1] * row_scale);
        finish(first + row, column, low + bias[0], high + bias[1]);
      }
    }
  }
}

}  // namespace stride
