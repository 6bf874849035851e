// Number formats of a matrix product: how rows and weights are written down and multiplied.
//
// Weights lie in panels of 32 columns, a panel in steps of 64 bytes of input, a step in two tiles
// of 1 KiB (columns 0-15 and 16-31). A tile's line holds, for each of its 16 columns, the next
// four bytes of input: what AMX and the dot-product instructions of AVX-512 both take. In memory a
// tile's lines follow each other where the processor loads tiles, and alternate with the other
// tile's where it loads lines: it streams best what is read in the order of addresses.
//
// A format says what an encoded number is (`Input`), a sum of products (`Sum`, sixteen of them a
// `Vector`) and a cached key or value (`Cached`), how many inputs a step takes, how a row of floats
// is written down (`encode`, which returns its scale) and how products are added up: a tile at a
// time (`add_upper_products` and `add_lower_products`) or four bytes at a time (`add_products`; the
// inputs are too large by `kShift` then, if there is one: see `shift`). `multiply` takes up to 32
// rows times a panel, into [rows, 32], and sums a row's products in an order that does not depend on
// how many rows there are.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "tiles.h"
#include "vectors.h"

namespace stride {

constexpr int kColumns = 32;  // of a panel
constexpr int kRows = 32;     // most rows multiplied at once
constexpr int kTileBytes = 1024;
constexpr int kStepBytes = 64;  // of an input row
constexpr int kRowsInRegisters = 8;  // whose sums fit there with the weights that they share

template <class Format>
concept Tiled = requires { Format::add_upper_products(); };

// From a tile's line to its next one, and from one tile's to the other's.
template <class Format>
constexpr int kLineBytes = Tiled<Format> ? 64 : 128;
template <class Format>
constexpr int kOtherTile = Tiled<Format> ? kTileBytes : 64;

// Multiplies `Taken` rows by one panel.
template <class Format, int Taken>
inline void multiply_rows(const typename Format::Input* rows, long stride,
                          const typename Format::Vector* panel, int steps,
                          const typename Format::Vector* starts, typename Format::Vector* sums) {
  using Vector = typename Format::Vector;
  Vector low[Taken], high[Taken];
  for (int r = 0; r < Taken; ++r) {
    low[r] = starts[0];
    high[r] = starts[1];
  }
  for (int step = 0; step < steps; ++step, panel += 32) {
    for (int word = 0; word < 16; ++word) {
      for (int r = 0; r < Taken; ++r) {
        const auto* input = reinterpret_cast<const char*>(rows + r * stride);
        const char* four = input + step * kStepBytes + word * 4;
        low[r] = Format::add_products(low[r], four, panel[2 * word]);
        high[r] = Format::add_products(high[r], four, panel[2 * word + 1]);
      }
    }
  }
  for (int r = 0; r < Taken; ++r) {
    sums[2 * r] = low[r];
    sums[2 * r + 1] = high[r];
  }
}

// With an instruction that adds four bytes' products to a column's sum: for processors without
// tiles, and for float. `starts` are what the columns' sums start from.
template <class Format>
  requires(!Tiled<Format>)
inline void multiply(const typename Format::Input* rows, long stride, int count,
                     const std::byte* panel, int steps, const typename Format::Sum* starts,
                     typename Format::Sum* sums) {
  using Vector = typename Format::Vector;
  const auto* weights = reinterpret_cast<const Vector*>(panel);
  const auto* first = reinterpret_cast<const Vector*>(starts);
  auto* out = reinterpret_cast<Vector*>(sums);
  const auto take = [&]<int... Fewer>(int row, int taken, std::integer_sequence<int, Fewer...>) {
    ((taken == Fewer + 1 ? multiply_rows<Format, Fewer + 1>(rows + row * stride, stride, weights,
                                                            steps, first, out + 2 * row)
                         : void()),
     ...);
  };
  for (int row = 0; row < count; row += kRowsInRegisters) {
    take(row, std::min(count - row, kRowsInRegisters),
         std::make_integer_sequence<int, kRowsInRegisters>());
  }
}

#ifdef STRIDE_AMX
// In tiles, for formats that have them: every sum starts from zero. Reads rows up to the next
// multiple of 16, if there are more than 16.
template <Tiled Format>
inline void multiply(const typename Format::Input* rows, long stride, int count,
                     const std::byte* panel, int steps, const typename Format::Sum* /*starts*/,
                     typename Format::Sum* sums) {
  constexpr int kAhead = 6 * kTileBytes;
  constexpr int kSumStride = kColumns * 4;
  const long bytes = stride * static_cast<long>(sizeof *rows);
  const auto* upper = reinterpret_cast<const std::byte*>(rows);
  const auto* lower = upper + 16 * bytes;
  auto* out = reinterpret_cast<std::byte*>(sums);
  _tile_zero(0);
  _tile_zero(1);
  if (count <= 16) {
    for (int step = 0; step < steps; ++step, panel += 2 * kTileBytes, upper += kStepBytes) {
      for (int line = 0; line < 2 * kTileBytes; line += 64) {
        __builtin_prefetch(panel + kAhead + line);
      }
      _tile_loadd(4, upper, bytes);
      _tile_loadd(6, panel, 64);
      _tile_loadd(7, panel + kTileBytes, 64);
      Format::add_upper_products();
    }
  } else {
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; ++step, panel += 2 * kTileBytes) {
      _tile_loadd(4, upper + step * kStepBytes, bytes);
      _tile_loadd(5, lower + step * kStepBytes, bytes);
      _tile_loadd(6, panel, 64);
      _tile_loadd(7, panel + kTileBytes, 64);
      Format::add_upper_products();
      Format::add_lower_products();
    }
    _tile_stored(2, out + 16 * kSumStride, kSumStride);
    _tile_stored(3, out + 16 * kSumStride + 64, kSumStride);
  }
  _tile_stored(0, out, kSumStride);
  _tile_stored(1, out + 64, kSumStride);
}
#endif

// Eight-bit integers times eight-bit integers. A row has one scale, an output column another; sums
// are integers, hence exact. Both sides are rotated first, or the outliers of a row would leave
// the rest of it too few of the 255 levels.
struct Int8 {
  using Input = int8_t;
  using Sum = int32_t;
  using Vector = Ints;
  using Cached = Bfloat16;
  static constexpr int kInputsPerStep = 64;

  // Turns a row of floats into integers, in place of `row`; returns its scale.
  static float encode(float* row, int count, Input* out) {
    Words largest{};
    for (int i = 0; i < count; i += 64) {
      rotate64(row + i);
      for (int j = i; j < i + 64; j += kLanes) {
        // As integers, so that a NaN is larger than everything.
        const Words magnitude = reinterpret_cast<Words>(load(row + j)) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
      }
    }
    uint32_t most = 0;
    for (int lane = 0; lane < kLanes; ++lane) most = largest[lane] > most ? largest[lane] : most;
    if (most >= 0x7f800000) most = 0x7fc00000;  // infinities poison their own row, and nothing else
    float limit;
    std::memcpy(&limit, &most, sizeof limit);
    const float inverse = limit > 0 ? 127.0f / limit : 0.0f;
    for (int i = 0; i < count; i += kLanes) {
      const Floats shifted = load(row + i) * inverse + 12582912.0f;
      const Ints integers = reinterpret_cast<Ints>(shifted) - 0x4b400000;
      *reinterpret_cast<Bytes*>(out + i) = __builtin_convertvector(integers, Bytes);
    }
    return limit / 127.0f;
  }

#ifdef STRIDE_AMX
  static void add_upper_products() {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
  }
  static void add_lower_products() {
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
#elif defined(__AVX512VNNI__)
  // The instruction takes unsigned inputs: flipping a byte's highest bit adds 128 to it.
  static constexpr int kShift = 128;
  static void shift(Input* row, int count) {
    for (int i = 0; i < count; ++i) row[i] ^= kShift;
  }
  static Vector add_products(Vector sums, const char* four, Vector weights) {
    int32_t word;
    std::memcpy(&word, four, sizeof word);
    const __m512i inputs = _mm512_set1_epi32(word);
    return (Vector)_mm512_dpbusd_epi32((__m512i)sums, inputs, (__m512i)weights);
  }
#else
  // Any other processor: exact as well, and slow.
  static Vector add_products(Vector sums, const char* four, Vector weights) {
    const auto* bytes = reinterpret_cast<const int8_t*>(&weights);
    for (int i = 0; i < 4 * kLanes; ++i) sums[i / 4] += four[i % 4] * bytes[i];
    return sums;
  }
#endif
};

// Bfloat16 times bfloat16, summed in float.
struct Bf16 {
  using Input = Bfloat16;
  using Sum = float;
  using Vector = Floats;
  using Cached = Bfloat16;
  static constexpr int kInputsPerStep = 32;

  static float encode(float* row, int count, Input* out) {
    for (int i = 0; i < count; i += kLanes) store(out + i, load(row + i));
    return 1.0f;
  }

#ifdef STRIDE_AMX
  static void add_upper_products() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  static void add_lower_products() {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
#else
  static Vector add_products(Vector sums, const char* four, Vector weights) {
#if defined(__AVX512BF16__)
    float pair;
    std::memcpy(&pair, four, sizeof pair);
    return (Vector)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_ps(pair),
                                    (__m512bh)(__m512)weights);
#else
    uint32_t pair;
    std::memcpy(&pair, four, sizeof pair);
    const Words words = reinterpret_cast<Words>(weights);
    const auto part = [&](Words weight, uint32_t input) {
      return reinterpret_cast<Floats>(weight) * reinterpret_cast<Floats>(Words{} + input);
    };
    sums += part(words << 16, pair << 16);
    return sums + part(words & 0xffff0000, pair & 0xffff0000);
#endif
  }
#endif
};

// Float times float.
struct Fp32 {
  using Input = float;
  using Sum = float;
  using Vector = Floats;
  using Cached = float;
  static constexpr int kInputsPerStep = 16;

  static float encode(float* row, int count, Input* out) {
    std::memcpy(out, row, sizeof(float) * count);
    return 1.0f;
  }
  static Vector add_products(Vector sums, const char* four, Vector weights) {
    float input;
    std::memcpy(&input, four, sizeof input);
    return sums + weights * input;
  }
};

}  // namespace stride
