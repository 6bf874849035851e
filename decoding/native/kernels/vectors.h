// Sixteen floats at a time, in the vector extensions of GCC and Clang: one source for every
// processor. Nothing here depends on how many rows a forward has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace stride {

constexpr int kLanes = 16;

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));
typedef int8_t Bytes __attribute__((vector_size(16), aligned(1), may_alias));

// A bfloat16: the upper half of a float.
struct Bfloat16 {
  uint16_t bits;
};

constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

inline Floats all(float value) { return Floats{} + value; }
inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }

inline Floats load(const Bfloat16* from) {
  const Halves halves = *reinterpret_cast<const Halves*>(from);
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
}

// Rounds to nearest, ties to even; a NaN stays one.
inline void store(Bfloat16* to, Floats values) {
  const Words bits = reinterpret_cast<Words>(values);
  Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  rounded = (bits & 0x7fffffff) > 0x7f800000 ? Words{} + 0x7fc0 : rounded;
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector(rounded, Halves);
}

inline float to_float(float value) { return value; }
inline float to_float(Bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline float sum(Floats values) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += values[lane];
  return total;
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// Whether a comparison holds in any lane.
inline bool any(Ints mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
  int32_t found = 0;
  for (int lane = 0; lane < kLanes; ++lane) found |= mask[lane];
  return found != 0;
#endif
}

// e to the power of x for x <= 87, within 2e-7 relative; exactly 0 below -87.
inline Floats exponential(Floats x) {
  const Floats magic = all(12582912.0f);  // adding 1.5 * 2^23 rounds to an integer
  const Floats power = (x * 1.44269504f + magic) - magic;
  const Floats rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  Floats series = all(1.9875691500e-4f);  // Cephes' expf
  series = series * rest + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  series = series * rest * rest + rest + 1.0f;
  const Ints exponent = (__builtin_convertvector(power, Ints) + 127) << 23;
  const Floats result = series * reinterpret_cast<Floats>(exponent);
  return x < -87.0f ? Floats{} : result;
}

// One over x, within a few units in the last place; dividing takes four times as long.
inline Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
  const Floats guess = (Floats)_mm512_rcp14_ps((__m512)x);
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

inline Floats silu(Floats x) {
  const Floats decay = exponential(x < -87.0f ? all(87.0f) : -x);
  return x * reciprocal(1.0f + decay);
}

// A Walsh-Hadamard transform of 64 values, orthonormal: it spreads an outlier over all of them.
inline void rotate64(float* values) {
  Floats v[4] = {load(values), load(values + 16), load(values + 32), load(values + 48)};
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const Ints partner = kLane ^ distance;
    const Floats sign = (kLane & distance) != 0 ? all(-1.0f) : all(1.0f);
    for (Floats& each : v) each = __builtin_shuffle(each, partner) + each * sign;
  }
  const Floats a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
  store(values, (a + c) * 0.125f);
  store(values + 16, (b + d) * 0.125f);
  store(values + 32, (a - c) * 0.125f);
  store(values + 48, (b - d) * 0.125f);
}

}  // namespace stride
